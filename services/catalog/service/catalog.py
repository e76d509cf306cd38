"""What the catalog does: each method is one thing a client, the loader or an event asks for."""

import asyncio
from collections.abc import Iterable

from libs.common.clock import Clock
from libs.common.errors import FieldError, WrongRoom
from libs.common.events.reservation import SeatAt
from libs.common.web.admission import Admission
from services.catalog.domain import (
    ERRORS_TOLD_MAX,
    AlreadyPublished,
    Concert,
    ConcertNotFound,
    Layout,
    ScheduleNotFound,
    SeatState,
    Venue,
    check_venue,
    mark,
    unnamed,
)
from services.catalog.metrics import CatalogMetrics
from services.catalog.ports import Shelf
from services.catalog.service.boards import SeatMap
from services.catalog.service.library import ALL, Library
from services.catalog.service.view import View

PROPOSALS_RUNNING_MAX = 16
"""Layouts of a venue that are written side by side."""

EMPTY_LIST = b'{"concerts":[]}'


class CatalogService:
    """Tells what is on sale and still free, and puts concerts on sale."""

    def __init__(
        self,
        shelf: Shelf,
        library: Library,
        view: View,
        clock: Clock,
        metrics: CatalogMetrics,
        *,
        answer_every_s: float,
    ) -> None:
        self._shelf = shelf
        self._library = library
        self._view = view
        self._clock = clock
        self._answer_every_s = answer_every_s
        self._seats_encoded = metrics.encodings["seats"]
        self._schedules_encoded = metrics.encodings["schedules"]
        metrics.seats_available.set_function(self._seats_available)

    async def concerts(self) -> bytes:
        """All concerts by id, as JSON."""
        listed = await self._library.list.get(ALL)
        return EMPTY_LIST if listed is None else listed.body

    async def schedules(self, concert: int, admission: Admission) -> bytes:
        """The schedules of a concert that have a seat left, as JSON. Raises ConcertNotFound, WrongRoom."""
        board = await self._library.concerts.get(concert)
        if board is None:
            raise ConcertNotFound(f"There is no concert {concert}.")
        _check_room(admission, board.concert.room)
        view = self._view
        return board.answer.body(
            view.moves,
            self._clock.monotonic_s(),
            self._answer_every_s,
            lambda: board.encode(view),
            self._schedules_encoded,
        )

    async def seats(self, schedule: int, admission: Admission) -> bytes:
        """The free seats of a schedule, as JSON. Raises ScheduleNotFound, WrongRoom."""
        seats = await self.layout(schedule)
        _check_room(admission, seats.room)
        view = self._view.of(schedule)
        return seats.answer.body(
            view.moves,
            self._clock.monotonic_s(),
            self._answer_every_s,
            lambda: seats.encode(view),
            self._seats_encoded,
        )

    async def layout(self, schedule: int) -> SeatMap:
        """A published schedule. Raises ScheduleNotFound."""
        seats = await self._library.schedules.get(schedule)
        if seats is None:
            raise ScheduleNotFound(f"There is no schedule {schedule}.")
        return seats

    async def publish(self, venue: Venue, concert_in_path: int) -> Concert:
        """Put a whole venue on sale or nothing; the concert as it then stands. Again the same is no change.

        Raises InvalidField, AlreadyPublished.
        """
        check_venue(venue, concert_in_path)
        current = await self._shelf.concert(venue.concert.id)
        added = unnamed(current, venue)
        await self._check_owners(venue, added)
        await self._propose(added)
        concert = await self._shelf.publish(venue, self._clock.now_ms())
        self._library.heard_of(concert.id, [layout.schedule for layout in added])
        await self._library.read_again(concert.id)
        return concert

    def merge_seats(self, schedule: int, seats: Iterable[SeatAt], state: SeatState) -> None:
        """The reservation service told of seats of a schedule, which may not be known here yet."""
        self._view.merge(schedule, ((seat.seat, mark(seat.n, state)) for seat in seats), "event")

    def schedule_published(self, concert: int, schedule: int) -> None:
        """A schedule went on sale, here or in another process."""
        self._library.heard_of(concert, [schedule])

    async def _check_owners(self, venue: Venue, added: list[Layout]) -> None:
        """Raises AlreadyPublished, before anything is written, when a schedule belongs to another concert."""
        owners = {layout.schedule: await self._shelf.owner(layout.schedule) for layout in added}
        wrong = [
            FieldError(f"/schedules/{index}/id", f"belongs to concert {owners[layout.schedule]}")
            for index, layout in enumerate(venue.layouts)
            if owners.get(layout.schedule) not in (None, venue.concert.id)
        ]
        if wrong:
            raise AlreadyPublished(
                "Schedule ids are unique over all concerts; nothing was published.", errors=wrong[:ERRORS_TOLD_MAX]
            )

    async def _propose(self, added: list[Layout]) -> None:
        running = asyncio.Semaphore(PROPOSALS_RUNNING_MAX)

        async def propose(layout: Layout) -> None:
            async with running:
                await self._shelf.propose(layout)

        # All are awaited even when one fails: nothing of this call may still be writing when it has answered.
        results = await asyncio.gather(*(propose(layout) for layout in added), return_exceptions=True)
        for result in results:
            if result is not None:
                raise result

    def _seats_available(self) -> int:
        return sum(board.available(self._view) for board in self._library.concerts.values())


def _check_room(admission: Admission, room: int) -> None:
    if not admission.may_enter(room):
        raise WrongRoom(f"This is sold in room {room}; your ticket is for room {admission.room}.")
