"""What the reservation needs from the outside: its documents, and the catalog's word on a schedule."""

from dataclasses import dataclass
from typing import Protocol, TypeVar

from libs.common.storage.ports import Decide
from services.reservation.domain.block import Block
from services.reservation.domain.cap import Places
from services.reservation.domain.layout import Layout
from services.reservation.domain.reservation import Reservation

R = TypeVar("R")


class ReservationTaken(Exception):
    """An insert found that its id is taken."""


class Blocks(Protocol):
    """The blocks of all schedules, by `block_id`. One that nobody touched is not there."""

    async def update(self, id_: str, decide: Decide[Block, R]) -> R:
        """Decide on the block; decisions that wait for it at the same time share one write."""
        ...

    async def of_schedule(self, schedule: int) -> list[Block]: ...

    async def due(self, until_ms: int, limit: int) -> list[Block]:
        """Blocks whose first held seat lapses at `until_ms` or before, the longest overdue first."""
        ...


class Reservations(Protocol):
    async def get(self, id_: str) -> Reservation | None: ...

    async def insert(self, reservation: Reservation) -> None:
        """Raises ReservationTaken."""
        ...

    async def update(self, id_: str, decide: Decide[Reservation, R]) -> R: ...

    async def due(self, until_ms: int, limit: int) -> list[Reservation]:
        """Reservations that want a sweeper at `until_ms` or before, the longest overdue first."""
        ...


class PlaceBooks(Protocol):
    """What each user has in each schedule of several blocks, by `places_id`."""

    async def update(self, id_: str, decide: Decide[Places, R]) -> R: ...


@dataclass(frozen=True, slots=True)
class Holder:
    """Whom a ticket is bound to, and whether it has bought: then it holds nothing more."""

    user: int
    has_bought: bool


class Tickets(Protocol):
    """Which user each ticket holds for."""

    async def holder(self, ticket: str) -> Holder | None:
        """The holder of a ticket; None before its first hold."""
        ...

    async def bind(self, ticket: str, user: int, now_ms: int) -> Holder:
        """Bind a ticket to a user unless it is bound; whom it is bound to now."""
        ...

    def bought(self, ticket: str, user: int) -> None:
        """A purchase of this ticket is confirmed, here or elsewhere."""
        ...

    def forget(self) -> None:
        """News of purchases may have been missed: ask the store again."""
        ...

    async def purge(self, made_before_ms: int, limit: int) -> int:
        """Delete at most `limit` bindings; how many went."""
        ...


class PaymentKeys(Protocol):
    """Which reservation and which body each client-given payment key of a user is for."""

    async def claim(self, user: int, key: str, reservation: str, body_digest: str, now_ms: int) -> bool:
        """True when the key is for this reservation and this body; False when it was claimed for others before."""
        ...

    async def was_claimed(self, user: int, key: str, reservation: str, body_digest: str) -> bool | None:
        """What `claim` says of a key that was claimed before; None for one that was not. Claims nothing."""
        ...

    async def purge(self, made_before_ms: int, limit: int) -> int:
        """Delete at most `limit` keys; how many went."""
        ...


class Schedules(Protocol):
    async def layout(self, schedule: int) -> Layout:
        """The layout of a schedule. Raises ScheduleNotFound, or DependencyDown when only the catalog knows it."""
        ...


@dataclass(frozen=True, slots=True)
class Books:
    """Everything the room reads and writes."""

    blocks: Blocks
    reservations: Reservations
    places: PlaceBooks
    tickets: Tickets
    payment_keys: PaymentKeys
    schedules: Schedules
