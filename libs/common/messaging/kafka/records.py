"""Messages as Kafka records: the only place that knows their shape.

A record is a CloudEvent in binary mode: each attribute a header `ce_…`, the JSON value in the value. A dead letter is
the same record under another key, with where it came from and why it died in further headers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from libs.common.messaging.cloudevents import attributes, message_from, text
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
    return message_from(record.topic, text(record.key), dict(record.headers), record.value or b"")


def letter_of(topic: str, group: str, record: Any) -> DeadLetter:
    headers = dict(record.headers)
    message = message_from(topic, text(headers.get("origin_key")), headers, record.value or b"")
    return DeadLetter(text(record.key), group, text(headers.get("error")), message)


def _headers(message: Message) -> Headers:
    return [(name, value.encode()) for name, value in attributes(message)]
