"""Documents as the services see them. Every adapter passes `libs.common.testing.documents_contract`.

A room says what it stores with a `Collection`, and changes it with decisions: pure functions from the state that is
there to the state that shall be, a result for the caller, and the events that tell of it. State and events are stored
in one atomic step; there are no transactions over several documents anywhere.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from libs.common.errors import Problem
from libs.common.messaging.ports import Message

Body = dict[str, Any]
"""A JSON object; the fields named in a collection's `unique` and `indexes` stand at its top level."""

T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True)
class Collection(Generic[T]):
    """What a room stores under one name, how it is written down, and by what it can be found.

    `unique` fields hold no value twice (absent or null does not count); `indexes` are the field combinations that
    `find`, `count` and `purge` may ask for. `kept_count_max` is how many states a process keeps in memory after writing
    them, to decide on without reading them again (see `folding.py`): for documents that are changed again soon.
    """

    name: str
    encode: Callable[[T], Body]
    decode: Callable[[Body], T]
    unique: tuple[str, ...] = ()
    indexes: tuple[tuple[str, ...], ...] = ()
    kept_count_max: int = 0

    @property
    def fields(self) -> tuple[str, ...]:
        """Every field an adapter has to make searchable, in declaration order."""
        return tuple(dict.fromkeys([*self.unique, *(field for index in self.indexes for field in index)]))


@dataclass(frozen=True, slots=True)
class Where:
    """One condition on a declared field. A document without the field never matches."""

    field: str
    op: Literal["=", "in", "<=", ">=", "<", ">"]
    value: Any


@dataclass(frozen=True)
class Decision(Generic[T, R_co]):
    """What was decided: `state` None leaves the document as it is; `events` are those of `libs.common.events`."""

    result: R_co
    state: T | None = None
    events: Sequence[object] = ()


Decide = Callable[[T | None], Decision[T, R]]
"""Pure; may run many times; recognises its own earlier success, because a reply can be lost after the commit.
Receives None where there is no document; raises a typed error to refuse."""


class AlreadyExists(Exception):
    """An insert found its id (`field` "id") or one of its unique keys taken."""

    def __init__(self, field: str) -> None:
        super().__init__(f"{field} is taken")
        self.field = field


class Stale(Exception):
    """A compare-and-set lost: the document is no longer at the version that was read."""


class Contended(Problem):
    """A document changed under us more often than the budget of tries allows."""

    status, code, title = 503, "OVERLOADED", "Too many people want this at once"


@dataclass(frozen=True, slots=True)
class Versioned:
    """A stored body and the version that the next compare-and-set has to name."""

    id: str
    version: int
    body: Body


class StoredCollection(Protocol):
    """What an adapter does for one collection. `Documents` (in `folding.py`) is the only caller."""

    async def load(self, id_: str) -> Versioned | None: ...

    async def swap(self, id_: str, expected: int, body: Body, events: Sequence[Message]) -> None:
        """Write `body` and `events` in one atomic step if the document is at version `expected` (0: is not there).

        Raises Stale, AlreadyExists(unique field), or DependencyDown when the outcome is unknown.
        """
        ...

    async def find(
        self, where: Sequence[Where], order_by: str | None, descending: bool, limit: int
    ) -> list[Versioned]: ...

    async def count(self, where: Sequence[Where]) -> int: ...

    async def purge(self, where: Sequence[Where], limit: int) -> int:
        """Delete at most `limit` matching documents; how many went."""
        ...


class Store(Protocol):
    """One service's documents and the outbox beside them."""

    async def start(self) -> None:
        """Open, and bring the schema to this version. Raises ConfigError when that cannot be."""
        ...

    async def stop(self) -> None: ...

    async def ping(self) -> None:
        """Return when a read answers; raise DependencyDown otherwise."""
        ...

    def collection(self, declared: Collection[Any]) -> StoredCollection:
        """The stored side of a collection. All are declared before `start`, which makes their indexes."""
        ...

    async def unpublished(self, stored_before_ms: int, limit: int) -> list[Message]:
        """The oldest events that no broker has confirmed and that were stored before a time."""
        ...

    async def mark_published(self, event_ids: Sequence[str]) -> None: ...

    async def published_since(self, stored_from_ms: int, after: str, limit: int) -> list[Message]:
        """Events that a broker has confirmed and that were stored at a time or later, in the order of their ids: those
        behind the id `after`, from the first one where that is empty."""
        ...

    async def purge_published(self, stored_before_ms: int, limit: int) -> int:
        """Forget published events stored before a time; how many went."""
        ...

    async def outbox_backlog(self) -> tuple[int, int | None]:
        """How many events wait to be published, and when the oldest of them was stored (epoch ms)."""
        ...
