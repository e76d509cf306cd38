"""How the seats of a schedule lie in blocks.

A block is what is decided in one step, so the same seats must lie in the same block on every machine and for ever: the
layout follows from the sections in the order the catalog published them, and a published schedule never changes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from libs.common.contract.catalog import ScheduleLayout
from services.reservation.domain.problems import SeatNotFound, pointed

BLOCK_SEATS_MAX = 500
BLOCKS_MAX = 200
"""More than any schedule has: two neighbouring blocks hold more than 500 seats, and a schedule at most 20,000."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The seats of one schedule: each one's price in points and the block it lies in."""

    schedule: int
    room: int
    price: Mapping[int, int]
    block: Mapping[int, int]
    block_count: int

    def by_block(self, seats: Sequence[int]) -> list[tuple[int, tuple[int, ...]]]:
        """`seats` grouped by block, blocks in ascending order. Raises SeatNotFound naming the unknown ones."""
        unknown = {seat for seat in seats if seat not in self.block}
        if unknown:
            raise SeatNotFound(
                f"Schedule {self.schedule} does not have these seats; its seat map lists those it has.",
                errors=pointed(seats, unknown, "no such seat in this schedule"),
            )
        if self.block_count == 1:
            return [(0, tuple(seats))]
        grouped: dict[int, list[int]] = {}
        for seat in seats:
            grouped.setdefault(self.block[seat], []).append(seat)
        return [(index, tuple(grouped[index])) for index in sorted(grouped)]

    def amount(self, seats: Sequence[int]) -> int:
        """What `seats` cost together, in points."""
        return sum(self.price[seat] for seat in seats)


def laid_out(published: ScheduleLayout) -> Layout:
    """The layout of a schedule as the catalog published it."""
    blocks: list[list[int]] = [[]]
    for section in published.sections:
        seats = [seat.id for seat in section.seats]
        if blocks[-1] and len(blocks[-1]) + len(seats) > BLOCK_SEATS_MAX:
            blocks.append([])
        for start in range(0, len(seats), BLOCK_SEATS_MAX):
            if start:  # a section longer than a block fills several
                blocks.append([])
            blocks[-1].extend(seats[start : start + BLOCK_SEATS_MAX])
    return Layout(
        schedule=published.id,
        room=published.room,
        price={seat.id: seat.price for section in published.sections for seat in section.seats},
        block={seat: index for index, seats in enumerate(blocks) for seat in seats},
        block_count=len(blocks),
    )
