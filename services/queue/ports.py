"""What the queue needs from the outside."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from libs.common.storage.ports import Decide
from services.queue.domain.joins import JoinKey
from services.queue.domain.line import Room
from services.queue.domain.visits import Session

R = TypeVar("R")


class Rooms(Protocol):
    """One document per room."""

    async def get(self, room: int) -> Room | None: ...

    async def create(self, room: Room) -> None:
        """Store a new room; one that exists stays as it is."""
        ...

    async def update(self, room: int, decide: Decide[Room, R]) -> R: ...


class Sessions(Protocol):
    """One document per ticket whose offer was answered, lapsed or given up."""

    async def get(self, room: int, sequence: int) -> Session | None: ...

    async def insert(self, session: Session, events: Sequence[object]) -> bool:
        """Store a new session and its events in one step; False when the sequence has one already."""
        ...

    async def update(self, room: int, sequence: int, decide: Decide[Session, R]) -> R: ...

    async def count_between(self, room: int, after: int, upto: int) -> int:
        """How many sequences in (after, upto] have a session."""
        ...

    async def between(self, room: int, after: int, upto: int, limit: int) -> list[Session]:
        """The sessions of the first sequences in (after, upto], ascending."""
        ...

    async def of(self, room: int, sequences: Sequence[int]) -> list[Session]:
        """The sessions of these sequences, in any order."""
        ...

    async def count_open(self, room: int, until_after_ms: int) -> int:
        """How many open visits end later than a time."""
        ...

    async def overdue(self, room: int, until_ms: int, limit: int) -> list[Session]:
        """Open visits that were to end at a time or before, the oldest first."""
        ...

    async def purge(self, room: int, upto: int, limit: int) -> int:
        """Delete at most `limit` sessions at or under a sequence; how many went."""
        ...


class JoinKeys(Protocol):
    """The joins that came with a client's own key."""

    async def update(self, id_: str, decide: Decide[JoinKey, R]) -> R: ...

    async def purge(self, before_ms: int, limit: int) -> int:
        """Forget keys claimed before a time; how many went."""
        ...
