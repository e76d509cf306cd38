"""The ledger's rules, without I/O."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import IdempotencyMismatch, InvalidField
from libs.common.events.wallet import PaymentCompleted, PaymentDeclined, PaymentRefunded, PaymentVoided
from services.wallet.domain import (
    BALANCE_MAX,
    GENESIS,
    Entry,
    UserNotFound,
    answer_of,
    breaks,
    charge,
    check_same_request,
    open_wallet,
    opened,
    pay_op,
    pay_or_decline,
    refund,
    refund_op,
    void,
)

NOW = 1_800_000_000_000


def charged(point: int = 100, head: Entry | None = None) -> Entry:
    return charge(head, 7, point, op=f"charge:{head.seq if head else 0}", request_digest="digest", now_ms=NOW)


def test_the_first_charge_opens_the_wallet() -> None:
    entry = charged(100)
    assert (entry.seq, entry.balance_after, entry.opened_ms, entry.prev) == (1, 100, NOW, GENESIS)


def test_a_payment_without_a_wallet_is_declined_and_opens_nothing() -> None:
    entry = pay_or_decline(None, 7, 1, pay_op("r-1", 1), NOW)
    assert (entry.kind, entry.amount, entry.balance_after, entry.opened_ms) == ("decline", 0, 0, None)
    with pytest.raises(UserNotFound):
        opened(entry, 7)


def test_a_wallet_that_only_saw_declines_opens_with_its_first_charge() -> None:
    declined = pay_or_decline(None, 7, 1, pay_op("r-1", 1), NOW)
    assert charged(5, declined).opened_ms == NOW


def test_the_balance_to_the_point_is_enough_and_one_less_is_not() -> None:
    assert pay_or_decline(charged(100), 7, 100, pay_op("r-1", 1), NOW).balance_after == 0
    assert pay_or_decline(charged(99), 7, 100, pay_op("r-1", 1), NOW).kind == "decline"


def test_an_opening_balance_is_given_once() -> None:
    first = open_wallet(None, 7, 500, NOW)
    assert (first.kind, first.balance_after) == ("open", 500)
    assert open_wallet(first, 7, 500, NOW) is first
    assert open_wallet(charged(1), 7, 500, NOW).balance_after == 1


def test_a_charge_beyond_the_largest_balance_is_refused_and_names_the_field() -> None:
    with pytest.raises(InvalidField) as refused:
        charged(1, replace(charged(1), balance_after=BALANCE_MAX))
    assert [error.pointer for error in refused.value.errors] == ["/point"]


def test_a_refund_gives_back_what_the_payment_took() -> None:
    paid = pay_or_decline(charged(100), 7, 70, pay_op("r-1", 2), NOW)
    back = refund(paid, paid, refund_op("r-1", 2), NOW)
    assert (back.amount, back.balance_after) == (70, 100)


def test_each_kind_of_decision_has_its_own_answer() -> None:
    paid = pay_or_decline(charged(100), 7, 70, pay_op("r-1", 2), NOW)
    answers = [
        answer_of(paid),
        answer_of(refund(paid, paid, refund_op("r-1", 2), NOW)),
        answer_of(pay_or_decline(None, 7, 70, pay_op("r-1", 2), NOW)),
        answer_of(void(None, 7, pay_op("r-1", 2), NOW)),
    ]
    assert answers == [
        PaymentCompleted("r-1", 2, 7, 70, NOW),
        PaymentRefunded("r-1", 2, 7, 70, NOW),
        PaymentDeclined("r-1", 2, 7, NOW),
        PaymentVoided("r-1", 2, 7, NOW),
    ]


def test_a_key_that_comes_back_with_another_body_is_refused() -> None:
    check_same_request(charged(), "digest")
    with pytest.raises(IdempotencyMismatch):
        check_same_request(charged(), "other digest")


@given(st.lists(st.tuples(st.sampled_from(["charge", "pay", "void"]), st.integers(1, 500)), max_size=40))
def test_whatever_happens_the_balance_is_the_sum_and_never_negative(steps: list[tuple[str, int]]) -> None:
    head: Entry | None = None
    total = 0
    for number, (step, amount) in enumerate(steps):
        before = head
        if step == "charge":
            head = charge(head, 7, amount, op=f"charge:{number}", request_digest="digest", now_ms=NOW)
        elif step == "pay":
            head = pay_or_decline(head, 7, amount, pay_op("r-1", number), NOW)
        else:
            head = void(head, 7, pay_op("r-1", number), NOW)
        total += head.amount
        assert head.balance_after == total >= 0
        assert head.prev == (before.seal if before else GENESIS)
        assert head.seq == number + 1


@given(st.sampled_from(["user", "seq", "amount", "balance_after", "at_ms"]), st.integers(1, 9))
def test_tampering_with_any_number_of_an_entry_breaks_its_seal(field: str, by: int) -> None:
    entry = charged()
    assert replace(entry, **{field: getattr(entry, field) + by}).seal != entry.seal


def test_a_ledger_follows_from_entry_to_entry_and_one_that_was_changed_does_not() -> None:
    entries = [charge(None, 7, 100, op="charge:0", request_digest="d", now_ms=NOW)]
    for number in range(1, 5):
        entries.append(pay_or_decline(entries[-1], 7, 30, pay_op("r-1", number), NOW))
    assert breaks(entries[::-1]) == []
    raised = [replace(each, balance_after=each.balance_after + (each.seq == 3)) for each in entries]
    assert breaks(raised[::-1]) == [4, 3]
    assert breaks([each for each in entries[::-1] if each.seq != 2]) == [3]


def test_a_debt_is_a_break_even_where_it_adds_up() -> None:
    first = charged()
    owing = replace(first, seq=2, kind="pay", amount=-500, balance_after=first.balance_after - 500, prev=first.seal)
    assert breaks([owing, first]) == [2]
