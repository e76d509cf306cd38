"""A block of seats: who has each one, decided in one step for all of them.

The one invariant: a seat has at most one live owner, and its `n` grows at every change of owner, freeing included. So
whoever knows a seat's `n` can tell whether it is still the ownership they know, and whoever merges what was told of a
seat takes the largest `n`.

    free ──hold──▶ held ──pin──▶ paying ──sell──▶ sold
      ▲   n + 1     │ lapsed: as good as free        │
      └─────────────┴──────── free, n + 1 ◀──────────┘   only for a reservation that is dead
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from libs.common.events.reservation import SeatAt, SeatsHeld, SeatsReleased, SeatsSold
from libs.common.storage.ports import Decision
from services.reservation.domain.lapse import lapsed
from services.reservation.domain.problems import HoldExpired, SeatTaken, TooManySeats

SeatState = Literal["free", "held", "paying", "sold"]

Row = Sequence[Any]
"""A `Seat` as it is stored: `[seat, n, state, owner, user, until_ms]`."""


class Seat(NamedTuple):
    """One seat that somebody has, or had. `until_ms` is set while it is held."""

    seat: int
    n: int = 0
    state: SeatState = "free"
    owner: str | None = None
    user: int | None = None
    until_ms: int | None = None

    def is_lapsed(self, now_ms: int, skew_ms: int) -> bool:
        return self.until_ms is not None and lapsed(self.until_ms, now_ms, skew_ms)

    def freed(self) -> "Seat":
        return Seat(self.seat, self.n + 1)


@dataclass(frozen=True, slots=True)
class Block:
    """The seats of a block that anybody ever touched, by id. Rows stay as stored until somebody asks for their seat:
    a fold looks at a few of five hundred."""

    schedule: int
    index: int
    rows: Mapping[int, Row]

    @property
    def id(self) -> str:
        return block_id(self.schedule, self.index)

    @property
    def due_ms(self) -> int | None:
        """When the first of the held seats lapses."""
        return min((row[5] for row in self.rows.values() if row[5] is not None), default=None)

    def at(self, seat: int) -> Seat:
        row = self.rows.get(seat)
        return Seat(seat) if row is None else Seat(*row)

    def changed(self, seats: Iterable[Seat]) -> "Block":
        # Stored as plain tuples: the JSON encoder refuses named ones.
        return Block(self.schedule, self.index, {**self.rows, **{seat.seat: tuple(seat) for seat in seats}})


@dataclass(frozen=True, slots=True)
class HoldOrder:
    """What a hold wants of one block. `asked` are the seats of the whole request, in its order. `seats_max` is how many
    seats the user may have here, None where that is decided outside of the block."""

    schedule: int
    index: int
    reservation: str
    user: int
    asked: Sequence[int]
    seats: Sequence[int]
    until_ms: int
    seats_max: int | None


@dataclass(frozen=True, slots=True)
class Taken:
    """The seats of a hold in one block, with their `n`, and until when they are held."""

    seats: tuple[SeatAt, ...]
    until_ms: int


def block_id(schedule: int, index: int) -> str:
    return f"{schedule}:{index}"


def hold(block: Block | None, order: HoldOrder, now_ms: int, skew_ms: int) -> Decision[Block, Taken]:
    """All seats of the order, or none. Raises SeatTaken or TooManySeats.

    A seat the reservation has already and that is not lapsed stays exactly as it is, whatever its state: a late retry
    must not reset a seat that is being paid for.
    """
    block = block or Block(order.schedule, order.index, {})
    wanted = [block.at(seat) for seat in order.seats]
    fresh: list[Seat] = []
    foreign: set[int] = set()
    for seat in wanted:
        if seat.state == "free" or seat.is_lapsed(now_ms, skew_ms):
            fresh.append(Seat(seat.seat, seat.n + 1, "held", order.reservation, order.user, order.until_ms))
        elif seat.owner != order.reservation:
            foreign.add(seat.seat)
    if foreign:
        raise SeatTaken(order.asked, foreign)
    kept = [seat.until_ms for seat in wanted if seat.owner == order.reservation and seat.until_ms is not None]
    if not fresh:
        return Decision(Taken(_seats_at(wanted), min(kept, default=order.until_ms)))
    if order.seats_max is not None and _others(block, order, now_ms, skew_ms) + len(wanted) > order.seats_max:
        raise TooManySeats(order.seats_max)
    # What lapsed and was not counted is given up for good: a payment on its way could pin it, and pass the cap.
    lost = _lapsed_others(block, order, now_ms, skew_ms) if order.seats_max is not None else []
    after = block.changed([*fresh, *(seat.freed() for seat in lost)])
    mine = [after.at(seat) for seat in order.seats]
    until_ms = min(seat.until_ms for seat in mine if seat.until_ms is not None)
    told = SeatsHeld(order.schedule, order.reservation, _seats_at(fresh), now_ms)
    return Decision(Taken(_seats_at(mine), until_ms), after, [told, *_released(order.schedule, lost, now_ms)])


def pin(
    block: Block | None, reservation: str, seats: Sequence[SeatAt], now_ms: int, skew_ms: int
) -> Decision[Block, None]:
    """Keep the seats for a payment: from now on they do not lapse. Raises HoldExpired when one is not the
    reservation's any more. Seats that are pinned or sold under the same `n` are as wanted."""
    if block is None:
        raise HoldExpired
    pinned: list[Seat] = []
    for wanted in seats:
        seat = block.at(wanted.seat)
        if seat.owner != reservation or seat.n != wanted.n or seat.is_lapsed(now_ms, skew_ms):
            raise HoldExpired
        if seat.state == "held":
            pinned.append(seat._replace(state="paying", until_ms=None))
    return Decision(None, block.changed(pinned) if pinned else None)


def sell(block: Block | None, reservation: str, seats: Sequence[SeatAt], now_ms: int) -> Decision[Block, list[int]]:
    """Sell the pinned seats of a paid reservation; those sold already stay. The result names seats that are neither:
    a broken invariant, to be shouted about."""
    sold: list[Seat] = []
    lost: list[int] = []
    for wanted in seats:
        seat = Seat(wanted.seat) if block is None else block.at(wanted.seat)
        if (seat.owner, seat.n) != (reservation, wanted.n) or seat.state not in ("paying", "sold"):
            lost.append(wanted.seat)
        elif seat.state == "paying":
            sold.append(seat._replace(state="sold"))
    if block is None or not sold:
        return Decision(lost)
    return Decision(lost, block.changed(sold), [SeatsSold(block.schedule, reservation, _seats_at(sold), now_ms)])


def release(block: Block | None, reservation: str, seats: Iterable[int], now_ms: int) -> Decision[Block, None]:
    """Free those of `seats` that still belong to the reservation, which must be dead."""
    if block is None:
        return Decision(None)
    freed = [seat.freed() for seat in map(block.at, seats) if seat.owner == reservation]
    if not freed:
        return Decision(None)
    return Decision(None, block.changed(freed), [SeatsReleased(block.schedule, reservation, _seats_at(freed), now_ms)])


def release_lapsed(block: Block | None, now_ms: int, skew_ms: int) -> Decision[Block, int]:
    """Free every lapsed seat, whoever held it; the result is how many. Nobody has to do this for the seats to be
    free: it makes visible that they are."""
    if block is None:
        return Decision(0)
    lost = [Seat(*row) for row in block.rows.values() if row[5] is not None and lapsed(row[5], now_ms, skew_ms)]
    if not lost:
        return Decision(0)
    after = block.changed(seat.freed() for seat in lost)
    return Decision(len(lost), after, _released(block.schedule, lost, now_ms))


def _others(block: Block, order: HoldOrder, now_ms: int, skew_ms: int) -> int:
    """How many seats of the block the user has besides those wanted."""
    wanted = set(order.seats)
    return sum(
        row[4] == order.user and row[0] not in wanted and not (row[5] is not None and lapsed(row[5], now_ms, skew_ms))
        for row in block.rows.values()
    )


def _lapsed_others(block: Block, order: HoldOrder, now_ms: int, skew_ms: int) -> list[Seat]:
    """The lapsed seats of the user besides those wanted."""
    wanted = set(order.seats)
    return [
        Seat(*row)
        for row in block.rows.values()
        if row[4] == order.user and row[0] not in wanted and row[5] is not None and lapsed(row[5], now_ms, skew_ms)
    ]


def _released(schedule: int, lost: Iterable[Seat], now_ms: int) -> list[SeatsReleased]:
    """What is told of lapsed seats that are freed, an event for each of their owners."""
    by_owner: dict[str, list[Seat]] = {}
    for seat in lost:
        by_owner.setdefault(str(seat.owner), []).append(seat.freed())
    return [SeatsReleased(schedule, owner, _seats_at(seats), now_ms) for owner, seats in by_owner.items()]


def _seats_at(seats: Iterable[Seat]) -> tuple[SeatAt, ...]:
    return tuple(SeatAt(seat.seat, seat.n) for seat in seats)
