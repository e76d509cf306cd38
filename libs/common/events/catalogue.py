"""How an event becomes a message and back. The modules beside this file, one per producing room, define the events."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import orjson
from pydantic import TypeAdapter, ValidationError

from libs.common.errors import Poison
from libs.common.messaging.ports import Message

E = TypeVar("E", bound=type)


@dataclass(frozen=True, slots=True)
class EventType:
    """One row of the catalogue: which topic carries the event and which of its fields is the key there."""

    name: str
    topic: str
    key_field: str
    model: type


EVENT_TYPES: dict[str, EventType] = {}
"""Every event of the product by its `ce_type`."""


def event(topic: str, key_field: str) -> Callable[[E], E]:
    """Enter a frozen dataclass into the catalogue. It needs a field `at_ms` (epoch ms) and the key field."""

    def enter(model: E) -> E:
        if model.__name__ in EVENT_TYPES:
            raise ValueError(f"two events are called {model.__name__}")
        EVENT_TYPES[model.__name__] = EventType(model.__name__, topic, key_field, model)
        return model

    return enter


def to_message(event_: Any, id_: str, source: str, traceparent: str = "") -> Message:
    """The message that tells of `event_`. `id_` must follow from the change that caused it."""
    entry = EVENT_TYPES[type(event_).__name__]
    return Message(
        topic=entry.topic,
        key=str(getattr(event_, entry.key_field)),
        id=id_,
        type=entry.name,
        source=source,
        time_ms=event_.at_ms,
        data=orjson.dumps(event_),
        traceparent=traceparent,
    )


def from_message(message: Message) -> Any:
    """The event inside a message; unknown fields are ignored. Raises Poison for what no version of us wrote."""
    entry = EVENT_TYPES.get(message.type)
    if entry is None:
        raise Poison(f"unknown event type {message.type!r}")
    try:
        return _adapter(entry.name).validate_json(message.data)
    except ValidationError as wrong:
        first = wrong.errors()[0]
        raise Poison(f"{message.type}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(EVENT_TYPES[name].model)
