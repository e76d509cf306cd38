"""Holding seats, and giving them back.

    ticket ─▶ blocks, in order, one `until` ─▶ place under the cap ─▶ binding of the ticket ─▶ reservation
              │ refused here: nothing was taken │ refused from here on: filed as CANCELLED, then freed

The reservation is filed last. Seats whose reservation was never filed lapse by themselves; a retry with the same key is
the same owner, keeps what it has, and goes through.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from libs.common.clock import Clock
from libs.common.errors import IdempotencyMismatch, NotYours, Problem, SessionExpired, WrongRoom
from libs.common.ids import derived_id
from libs.common.web.admission import Admission
from libs.common.web.idempotency import IdempotencyKey, RunningWrites
from services.reservation.domain.block import HoldOrder, block_id, hold
from services.reservation.domain.cap import Place, places_id, take_place
from services.reservation.domain.lapse import lapsed
from services.reservation.domain.problems import SeatTaken, TooManySeats
from services.reservation.domain.reservation import (
    PlacedSeat,
    Refusal,
    Reservation,
    cancel,
    first_answer,
    owned,
    undone,
)
from services.reservation.metrics import ReservationMetrics
from services.reservation.ports import Books, ReservationTaken
from services.reservation.service.duties import Duties
from services.reservation.settings import ReservationSettings

Groups = Sequence[tuple[int, tuple[int, ...]]]
"""The seats of a hold by block, blocks in ascending order."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a hold asks for; `seats` are distinct and in the caller's order."""

    user: int
    schedule: int
    seats: tuple[int, ...]


class Holding:
    def __init__(
        self, books: Books, duties: Duties, settings: ReservationSettings, clock: Clock, metrics: ReservationMetrics
    ) -> None:
        self._books = books
        self._duties = duties
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._running = RunningWrites(clock)

    async def hold(self, admission: Admission, wanted: Wanted, key: IdempotencyKey) -> tuple[Reservation, bool]:
        """Hold seats once per key; the reservation as first answered, and whether this is that answer again.

        Raises SessionExpired, WrongRoom, NotYours, ScheduleNotFound, SeatNotFound, SeatTaken, TooManySeats,
        RequestInProgress, IdempotencyMismatch.
        """
        try:
            with self._running.mark(wanted.user, "hold", key.value):
                reservation, replayed = await self._hold(admission, wanted, key)
        except Problem as refusal:
            self._metrics.holds[refusal.code if refusal.code in self._metrics.holds else "refused"].inc()
            if isinstance(refusal, SeatTaken):
                self._metrics.conflicts.inc(len(refusal.taken))
            raise
        self._metrics.holds["replayed" if replayed else "held"].inc()
        return reservation, replayed

    async def cancel(self, admission: Admission, reservation_id: str) -> Reservation:
        """Give a hold back; its seats are free when this returns. One that has ended stays as it is.

        Raises SessionExpired, ReservationNotFound, NotYours, RequestInProgress, AlreadyPaid.
        """
        now_ms = self._clock.now_ms()
        self._check_inside(admission, now_ms)
        owned(await self._books.reservations.get(reservation_id), admission, now_ms)
        step = await self._books.reservations.update(reservation_id, partial(cancel, now_ms=now_ms))
        await self._duties.follow(step, now_ms)
        return step.reservation

    async def _hold(self, admission: Admission, wanted: Wanted, key: IdempotencyKey) -> tuple[Reservation, bool]:
        self._check_inside(admission, self._clock.now_ms())
        layout = await self._books.schedules.layout(wanted.schedule)
        now_ms = self._clock.now_ms()
        if not admission.may_enter(layout.room):
            raise WrongRoom(f"This concert is sold in room {layout.room}; join the line there.")
        groups = layout.by_block(wanted.seats)
        if len(wanted.seats) > self._settings.max_seats_per_user:
            raise TooManySeats(self._settings.max_seats_per_user)
        is_bound = await self._check_ticket(admission, wanted.user)
        draft = Reservation(
            id=derived_id("r", wanted.user, "hold", key.value),
            schedule=wanted.schedule,
            user=wanted.user,
            ticket=admission.ticket,
            room=admission.room,
            sequence=admission.sequence,
            seats=tuple(PlacedSeat(seat, layout.block[seat], 0) for seat in wanted.seats),
            capped=layout.block_count > 1,
            amount=layout.amount(wanted.seats),
            body_digest=key.body_digest,
            status="HELD",
            created_ms=now_ms,
            updated_ms=now_ms,
            expires_ms=now_ms + self._settings.hold_ms,
        )
        # A key we made ourselves is new to everyone; only one that a client gave can have an answer already.
        if not key.made and (first := await self._books.reservations.get(draft.id)) is not None:
            return self._replayed(first, draft), True
        try:
            taken = await self._take(draft, groups, is_bound)
        except (SeatTaken, TooManySeats):
            twin = None if key.made else await self._books.reservations.get(draft.id)
            if twin is None:
                raise
            return self._replayed(twin, draft), True
        return await self._file(taken)

    def _check_inside(self, admission: Admission, now_ms: int) -> None:
        if admission.is_over(now_ms, self._settings.clock_skew_ms):
            raise SessionExpired("This visit is over; join the line again.")

    async def _check_ticket(self, admission: Admission, user: int) -> bool:
        """Whether the ticket is bound already. Raises NotYours, SessionExpired. Static tickets bind nobody."""
        if admission.is_static:
            return True
        holder = await self._books.tickets.holder(admission.ticket)
        if holder is None:
            return False
        if holder.user != user:
            raise _bound_elsewhere()
        if holder.has_bought:
            raise SessionExpired("This ticket has bought already; join the line again.")
        return True

    async def _take(self, draft: Reservation, groups: Groups, is_bound: bool) -> Reservation:
        """The draft with its seats taken, or undone. Raises SeatTaken or TooManySeats when nothing was taken."""
        n_of: dict[int, int] = {}
        until_ms = draft.expires_ms
        refusal: Refusal | None = None
        try:
            for index, seats in groups:
                order = self._order(draft, index, seats, until_ms)
                decide = partial(hold, order=order, now_ms=draft.created_ms, skew_ms=self._settings.clock_skew_ms)
                taken = await self._books.blocks.update(block_id(draft.schedule, index), decide)
                # A retry goes on with the `until` of its first try: all its seats lapse together.
                until_ms = min(until_ms, taken.until_ms)
                n_of.update((seat.seat, seat.n) for seat in taken.seats)
            if draft.capped:
                await self._take_place(draft, until_ms)
            if not is_bound:
                holder = await self._books.tickets.bind(draft.ticket, draft.user, draft.created_ms)
                if holder.user != draft.user:
                    raise _bound_elsewhere()
        except (SeatTaken, TooManySeats, NotYours) as refused:
            if not n_of:
                raise
            refusal = Refusal(refused.code, refused.taken if isinstance(refused, SeatTaken) else ())
        placed = tuple(replace(seat, n=n_of.get(seat.seat, 0)) for seat in draft.seats)
        held = replace(draft, seats=placed, expires_ms=until_ms)
        return held if refusal is None else undone(held, refusal)

    def _order(self, draft: Reservation, index: int, seats: tuple[int, ...], until_ms: int) -> HoldOrder:
        return HoldOrder(
            schedule=draft.schedule,
            index=index,
            reservation=draft.id,
            user=draft.user,
            asked=[seat.seat for seat in draft.seats],
            seats=seats,
            until_ms=until_ms,
            seats_max=None if draft.capped else self._settings.max_seats_per_user,
        )

    async def _take_place(self, draft: Reservation, until_ms: int) -> None:
        """Take a place under the cap, giving up places that are void. Raises TooManySeats."""
        wanted = Place(draft.id, len(draft.seats), until_ms)
        seats_max = self._settings.max_seats_per_user
        gone: set[Place] = set()
        while True:
            decide = partial(take_place, wanted=wanted, seats_max=seats_max, gone=frozenset(gone))
            in_the_way = await self._books.places.update(places_id(draft.schedule, draft.user), decide)
            if in_the_way is None:
                return
            void = {place for place in in_the_way if await self._is_void(place, draft.created_ms)}
            if not void:
                raise TooManySeats(seats_max)
            gone |= void

    async def _is_void(self, place: Place, now_ms: int) -> bool:
        reservation = await self._books.reservations.get(place.reservation)
        if reservation is None:
            return lapsed(place.until_ms, now_ms, self._settings.clock_skew_ms)
        return reservation.is_dead

    async def _file(self, taken: Reservation) -> tuple[Reservation, bool]:
        """Store the reservation; one that is there already under its id decides instead."""
        now_ms = taken.created_ms
        try:
            await self._books.reservations.insert(taken)
        except ReservationTaken:
            first = await self._books.reservations.get(taken.id)
            if first is None:
                raise RuntimeError(f"reservation {taken.id} exists and cannot be read") from None
            await self._give_back_strays(taken, first, now_ms)
            return self._replayed(first, taken), True
        self._metrics.entered[taken.status].inc()
        if taken.refusal is not None:
            await self._duties.discharge(taken, now_ms)
            raise self._problem(taken.refusal, taken)
        return taken, False

    async def _give_back_strays(self, taken: Reservation, first: Reservation, now_ms: int) -> None:
        """Free what was taken in vain: everything if the reservation is dead, else what it does not name."""
        named = set() if first.is_dead else {seat.seat for seat in first.seats}
        strays = tuple(seat for seat in taken.seats if seat.seat not in named)
        if strays:
            await self._duties.free(replace(taken, seats=strays, capped=taken.capped and first.is_dead), now_ms)

    def _replayed(self, first: Reservation, draft: Reservation) -> Reservation:
        """The first answer again, refusals of undone holds included. Raises NotYours, IdempotencyMismatch."""
        if first.ticket != draft.ticket:
            raise NotYours("Another ticket has used this key for this user; use a key of your own.")
        if first.body_digest != draft.body_digest:
            raise IdempotencyMismatch("This key has held other seats; use a new key for a new hold.")
        if first.refusal is not None:
            raise self._problem(first.refusal, first)
        return first_answer(first)

    def _problem(self, refusal: Refusal, reservation: Reservation) -> Problem:
        if refusal.code == SeatTaken.code:
            return SeatTaken([seat.seat for seat in reservation.seats], refusal.seats)
        if refusal.code == TooManySeats.code:
            return TooManySeats(self._settings.max_seats_per_user)
        return _bound_elsewhere()


def _bound_elsewhere() -> NotYours:
    return NotYours("This ticket holds seats for another user.")
