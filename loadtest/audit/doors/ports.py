"""What comes out of a store and of a broker, whichever it is."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

Body = dict[str, Any]


class CannotRead(Exception):
    """A store or a broker does not let itself be read; the sentence says which and why."""


class Document(NamedTuple):
    id: str
    version: int
    body: Body


class Stored(NamedTuple):
    """An event in an outbox. `stored_ms` is the time of the change that it tells of."""

    id: str
    topic: str
    type: str
    stored_ms: int
    published: bool


class StoreDoor(Protocol):
    """One service's store. Both methods raise CannotRead."""

    def outbox(self) -> list[Stored]: ...

    def documents(self, collections: Iterable[str]) -> dict[str, list[Document]]:
        """All documents of these collections, as of one moment where the store can do that."""
        ...


@dataclass(slots=True)
class Stream:
    """What a topic has now: event ids with the time the broker took them. An event that was stored at `whole_from_ms`
    or after cannot have been trimmed yet; None where that is not known. `bodies` are kept only where asked for."""

    topic: str
    told: dict[str, int] = field(default_factory=dict)
    whole_from_ms: int | None = None
    bodies: list[bytes] = field(default_factory=list)


class Share(NamedTuple):
    """What a group has not finished of a topic. `oldest_ms` is when the broker took the oldest of it; 0: nothing."""

    topic: str
    group: str
    unfinished_count: int
    oldest_ms: int


class Letter(NamedTuple):
    topic: str
    group: str
    position: str
    event_id: str
    error: str


@dataclass(slots=True)
class Heard:
    """All that a broker has."""

    streams: dict[str, Stream] = field(default_factory=dict)
    shares: list[Share] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)


class BrokerDoor(Protocol):
    def hear(self, bodies_of: frozenset[str]) -> Heard:
        """Everything, with the bodies of some topics. Raises CannotRead."""
        ...
