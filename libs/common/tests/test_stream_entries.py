"""Replies of Redis 6.2 and 7, as bytes on the wire make them, and messages that survive the trip."""

from libs.common.messaging.ports import Message
from libs.common.messaging.redis_streams import entries
from libs.common.messaging.redis_streams.entries import Entry

MESSAGE = Message(
    topic="wallet.payments.v1",
    key="r-1",
    id="heads/7/3/0",
    type="PaymentCompleted",
    source="/stagedoor/wallet",
    time_ms=1_800_000_000_123,
    data=b'{"at_ms":1800000000123}',
    traceparent="00-11111111111111111111111111111111-2222222222222222-01",
)


def on_the_wire(command: list[str | bytes | int | float]) -> list[bytes]:
    return [part if isinstance(part, bytes) else str(part).encode() for part in command[3:]]


def test_a_message_survives_the_trip() -> None:
    command = entries.add_command(MESSAGE)
    assert command[:3] == ["XADD", "stagedoor:topic:wallet.payments.v1", "*"]
    assert "MAXLEN" not in command
    assert entries.message_of(MESSAGE.topic, on_the_wire(command)) == MESSAGE


def test_the_attributes_are_those_of_cloudevents() -> None:
    fields = on_the_wire(entries.add_command(MESSAGE))
    assert dict(zip(fields[::2], fields[1::2], strict=True))[b"ce_time"] == b"2027-01-15T08:00:00.123Z"
    assert fields[::2] == [
        b"ce_id", b"ce_source", b"ce_type", b"ce_specversion", b"ce_time", b"ce_subject", b"traceparent",
        b"content-type", b"key", b"data",
    ]  # fmt: skip


def test_a_letter_says_where_it_came_from_and_why() -> None:
    command = entries.bury_command(MESSAGE, "reservation", b"5-1", "cannot be read")
    assert command[1] == "stagedoor:topic:wallet.payments.v1.dlq.reservation"
    fields = on_the_wire(command)
    named = dict(zip(fields[::2], fields[1::2], strict=True))
    assert (named[b"origin_topic"], named[b"origin_position"]) == (b"wallet.payments.v1", b"5-1")
    letter = entries.letter_of(MESSAGE.topic, "reservation", Entry(b"9-0", fields))
    assert (letter.position, letter.group, letter.error, letter.message) == (
        "9-0", "reservation", "cannot be read", MESSAGE,
    )  # fmt: skip


def test_what_someone_else_wrote_is_a_message_that_no_handler_knows() -> None:
    message = entries.message_of("t", [b"ce_time", b"yesterday", b"ce_id", b"\xff", b"odd"])
    assert (message.type, message.time_ms, message.data, message.id) == ("", 0, b"", "\ufffd")


def test_reads() -> None:
    assert entries.read_entries(None) == []
    assert entries.read_entries([[b"key", [[b"1-0", [b"a", b"b"]], [b"2-0", None]]]]) == [
        Entry(b"1-0", [b"a", b"b"]),
        Entry(b"2-0", None),
    ]


def test_claims_of_6_2_and_7() -> None:
    assert entries.claimed_ids([b"0-0", [b"1-0", b"2-0"]]) == (b"0-0", [b"1-0", b"2-0"])
    assert entries.claimed_ids([b"3-0", [b"1-0"], [b"2-0"]]) == (b"3-0", [b"1-0"])
    assert entries.claimed_ids([b"0-0", [None]]) == (b"0-0", [])


def test_pending() -> None:
    assert entries.pending_of([0, None, None, None]) == (0, None)
    assert entries.pending_of([2, b"5-1", b"6-0", [[b"one", b"2"]]]) == (2, (5, 1))
    assert entries.pending_ids([[b"5-1", b"one", 12, 1]]) == [b"5-1"]


def test_groups_of_6_2_and_7() -> None:
    old = [b"name", b"g", b"consumers", 1, b"pending", 0, b"last-delivered-id", b"7-2"]
    assert entries.groups_of([old, [*old[:1], b"h", *old[2:], b"entries-read", 9, b"lag", None]]) == {
        "g": (7, 2),
        "h": (7, 2),
    }


def test_stream_and_server() -> None:
    assert entries.last_generated_id([b"length", 0, b"last-generated-id", b"7-2", b"first-entry", None]) == (7, 2)
    assert entries.server_info(b"# Server\r\nredis_version:6.2.14\r\nrun_id:abc\r\n") == {
        "redis_version": "6.2.14",
        "run_id": "abc",
    }
    assert entries.parse_id(b"12") < entries.parse_id(b"12-1") < entries.parse_id(b"100-0")
