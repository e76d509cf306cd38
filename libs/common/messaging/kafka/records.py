"""Messages as Kafka records: the only place that knows their shape.

A record is a CloudEvent in binary mode: each attribute a header `ce_…`, the JSON value in the value. A dead letter is
the same record under another key, with where it came from and why it died in further headers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from libs.common.clock import epoch_ms, iso_utc
from libs.common.messaging.ports import DeadLetter, Message

Headers = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to be written. Without a value it is a tombstone: it takes the earlier ones of its key away."""

    topic: str
    key: bytes
    value: bytes | None
    headers: Headers = ()


def group_id(topic: str, group: str) -> str:
    """What Kafka calls the group of one subscription. A group of ours that takes from two topics is two groups there:
    members that come and go on the one do not stop the work on the other."""
    return f"{topic}.{group}"


def letters_topic(topic: str, group: str) -> str:
    """The topic of a group's dead letters."""
    return f"{topic}.dlq.{group}"


def record_of(message: Message) -> Outgoing:
    return Outgoing(message.topic, message.key.encode(), message.data, _headers(message))


def letter_record(message: Message, group: str, at: tuple[int, int], error: str) -> Outgoing:
    """The dead letter for what was read at partition and offset `at`. What is buried twice has the same key twice."""
    partition, offset = at
    origin = [
        ("origin_topic", message.topic.encode()),
        ("origin_partition", b"%d" % partition),
        ("origin_offset", b"%d" % offset),
        ("origin_group", group.encode()),
        ("origin_key", message.key.encode()),
        ("error", error.encode()),
    ]
    key = b"%d-%d" % at
    return Outgoing(letters_topic(message.topic, group), key, message.data, [*_headers(message), *origin])


def tombstone(letter: DeadLetter) -> Outgoing:
    """Takes a letter from the dead letters."""
    return Outgoing(letters_topic(letter.message.topic, letter.group), letter.position.encode(), None)


def message_of(record: Any) -> Message:
    """The message in a record. What someone else wrote into the topic has empty parts, which no handler knows."""
    return _message(record.topic, _text(record.key), dict(record.headers), record.value)


def letter_of(topic: str, group: str, record: Any) -> DeadLetter:
    headers = dict(record.headers)
    message = _message(topic, _text(headers.get("origin_key")), headers, record.value)
    return DeadLetter(_text(record.key), group, _text(headers.get("error")), message)


def _headers(message: Message) -> Headers:
    return [
        ("ce_id", message.id.encode()),
        ("ce_source", message.source.encode()),
        ("ce_type", message.type.encode()),
        ("ce_specversion", b"1.0"),
        ("ce_time", iso_utc(message.time_ms).encode()),
        ("ce_subject", message.key.encode()),
        ("traceparent", message.traceparent.encode()),
        ("content-type", b"application/json"),
    ]


def _message(topic: str, key: str, headers: dict[str, bytes], value: bytes | None) -> Message:
    return Message(
        topic=topic,
        key=key,
        id=_text(headers.get("ce_id")),
        type=_text(headers.get("ce_type")),
        source=_text(headers.get("ce_source")),
        time_ms=_time_ms(_text(headers.get("ce_time"))),
        data=value or b"",
        traceparent=_text(headers.get("traceparent")),
    )


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")


def _time_ms(text: str) -> int:
    try:
        return epoch_ms(text)
    except ValueError:
        return 0
