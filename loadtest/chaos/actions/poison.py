"""Messages that no version of the product wrote, put into its topics.

Each id begins with `poison/`. A topic with groups buries them, one letter for each group. Where there are only
listeners nobody buries anything: the audit names what lies there, until `clear` (Redis Streams) or the topic's age
(Kafka, which takes nothing out of a topic) removes it.
"""

import time
from collections.abc import Callable

from libs.common.errors import ConfigError
from libs.common.events.topics import (
    CATALOG_SCHEDULES,
    QUEUE_LINE,
    QUEUE_SESSION,
    RESERVATION_OUTCOMES,
    RESERVATION_PAYMENTS,
    RESERVATION_SEATS,
    TOPICS,
    WALLET_PAYMENTS,
)
from libs.common.messaging.ports import DeadLetter, Message
from loadtest.chaos.actions import bus, kafka_topics, redis_topics
from loadtest.chaos.actions.place import Needs

MEGABYTE = 1_000_000
"""Of data; with its attributes it still is what a Kafka takes."""

LETTERS_COUNT_MAX = 10_000
MARK = "poison/"

# Of each topic a type that all its groups handle: what nobody handles is skipped unread.
_TYPES = {
    QUEUE_LINE: "LineMoved",
    QUEUE_SESSION: "SessionOpened",
    RESERVATION_SEATS: "SeatsHeld",
    RESERVATION_PAYMENTS: "PaymentRequested",
    WALLET_PAYMENTS: "PaymentCompleted",
    RESERVATION_OUTCOMES: "ReservationConfirmed",
    CATALOG_SCHEDULES: "SchedulePublished",
}

_MADE: dict[str, Callable[[str], tuple[str, bytes]]] = {
    "bad_json": lambda type_: (type_, b'{"at_ms": 1, '),
    "wrong_version": lambda type_: (f"{type_}V2", b'{"at_ms": 1}'),
    "megabyte": lambda type_: (type_, b'"' + b"x" * (MEGABYTE - 2) + b'"'),
    "missing_fields": lambda type_: (type_, b"{}"),
    "unknown_type": lambda _: ("NobodyKnowsThis", b"{}"),
}

KINDS = tuple(_MADE)
"""What `send` sends, one of each."""


def needs() -> Needs:
    """Nothing."""
    return {}


def send(topic: str, seed: int = 0) -> dict[str, list[str]]:
    """One message of each kind; their ids, which are the same for the same seed. Undo: `clear`."""
    if topic not in _TYPES:
        raise ConfigError(f"topic: {topic!r} is not among {', '.join(_TYPES)}")
    messages = [_message(topic, kind, seed) for kind in KINDS]
    bus.with_bus(lambda opened: opened.publish(messages))
    return {"ids": [message.id for message in messages]}


def letters(topic: str, group: str) -> dict[str, list[str]]:
    """The ids of all dead letters of a group on a topic, ours or not, in order."""
    return {"ids": sorted(letter.message.id for letter in _letters(topic, group))}


def clear(topic: str) -> dict[str, int]:
    """Take our poison out of the dead letters of every group, and out of the topic where the broker can do that; how
    many entries. What the services know of it stays."""
    url = bus.url_of()
    groups = TOPICS[topic].groups
    if not bus.is_kafka(url):
        return {"removed": bus.run(redis_topics.remove(url, topic, groups, MARK))}
    ours = [letter for group in groups for letter in _letters(topic, group) if letter.message.id.startswith(MARK)]
    return {"removed": bus.run(kafka_topics.unbury(url, ours))}


def _letters(topic: str, group: str) -> list[DeadLetter]:
    return bus.with_bus(lambda opened: opened.dead_letters(topic, group, LETTERS_COUNT_MAX))


def _message(topic: str, kind: str, seed: int) -> Message:
    type_, data = _MADE[kind](_TYPES[topic])
    id_ = f"{MARK}{kind}/{seed}"
    # A key of its own: of a compacted topic it must not take the place of a message that is meant.
    return Message(topic, id_, id_, type_, "chaos", time.time_ns() // 1_000_000, data)
