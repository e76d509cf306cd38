"""A ticket proves itself, in one spelling only."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import ConfigError
from libs.common.tickets import ROOM_MAX, SEQUENCE_MAX, Ticket, TicketCodec

OLD, NEW = bytes(range(16)), bytes(range(16, 48))
CODEC = TicketCodec({1: OLD}, signing_key=1)


@given(st.integers(0, ROOM_MAX), st.integers(0, SEQUENCE_MAX))
def test_a_signed_ticket_verifies_as_what_it_was_signed_for(room: int, sequence: int) -> None:
    text = CODEC.sign(room, sequence)
    assert CODEC.verify(text) == Ticket(text, room, sequence)


@given(st.integers(0, ROOM_MAX), st.integers(0, SEQUENCE_MAX))
def test_a_ticket_is_a_canonical_version_8_uuid(room: int, sequence: int) -> None:
    text = CODEC.sign(room, sequence)
    assert [len(part) for part in text.split("-")] == [8, 4, 4, 4, 12]
    assert text[14] == "8"
    assert text[19] in "89ab"
    assert text == text.lower()


@given(st.integers(0, 121), st.integers(1, SEQUENCE_MAX))
def test_a_ticket_with_any_one_bit_changed_is_not_ours(bit: int, sequence: int) -> None:
    digits = CODEC.sign(1, sequence).replace("-", "")
    free_bits = [index for index in range(128) if index not in (76, 77, 78, 79, 62, 63)]
    changed = f"{int(digits, 16) ^ (1 << free_bits[bit]):032x}"
    forged = "-".join([changed[:8], changed[8:12], changed[12:16], changed[16:20], changed[20:]])
    assert CODEC.verify(forged) is None


@pytest.mark.parametrize(
    "spell",
    [
        str.upper,
        lambda text: text.replace("-", ""),
        lambda text: "{" + text + "}",
        lambda text: "urn:uuid:" + text,
        lambda text: text + "\n",
        lambda text: " " + text[1:],
        lambda text: text[:-1] + "g",
        lambda text: text[:-1] + "٣",
        lambda _: "",
        lambda _: "test-token",
    ],
)
def test_any_other_spelling_is_not_a_ticket(spell: object) -> None:
    assert callable(spell)
    assert CODEC.verify(spell(CODEC.sign(1, 2**40 - 1))) is None


def test_tickets_of_two_keys_verify_side_by_side_and_end_with_their_key() -> None:
    before = TicketCodec({1: OLD, 2: NEW}, signing_key=1)
    after = TicketCodec({1: OLD, 2: NEW}, signing_key=2)
    retired = TicketCodec({2: NEW}, signing_key=2)
    early, late = before.sign(1, 5), after.sign(1, 6)
    assert before.verify(late) == Ticket(late, 1, 6)
    assert after.verify(early) == Ticket(early, 1, 5)
    assert retired.verify(early) is None
    assert retired.verify(late) == Ticket(late, 1, 6)


@pytest.mark.parametrize(
    ("keys", "signing_key", "names"),
    [
        ("", 1, "TICKET_KEYS"),
        ("1:zz", 1, "TICKET_KEYS"),
        ("1:abcd", 1, "TICKET_KEYS"),
        ("16:" + "ab" * 16, 16, "TICKET_KEYS"),
        ("1:" + "ab" * 16, 2, "TICKET_SIGNING_KEY"),
    ],
)
def test_keys_that_cannot_work_are_refused_by_the_name_of_their_setting(
    keys: str, signing_key: int, names: str
) -> None:
    with pytest.raises(ConfigError, match=names):
        TicketCodec.from_settings(keys, signing_key)
