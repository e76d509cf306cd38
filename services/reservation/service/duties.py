"""What follows when a reservation has moved: its callers are woken, its seats are sold or freed.

The reservation carries what it owes its seats until that is done. Whoever moved it does it at once; if a crash comes
between, a sweeper does.
"""

from functools import partial

from libs.common import log
from services.reservation.domain.block import block_id, release, sell
from services.reservation.domain.cap import leave_place, places_id
from services.reservation.domain.reservation import Reservation, Step, discharged
from services.reservation.metrics import ReservationMetrics
from services.reservation.ports import Books
from services.reservation.service.waiting import Waiters

logger = log.get_logger(__name__)


class Duties:
    def __init__(self, books: Books, waiters: Waiters, metrics: ReservationMetrics) -> None:
        self._books = books
        self._waiters = waiters
        self._metrics = metrics

    async def follow(self, step: Step, now_ms: int) -> None:
        """Tell of a step and do what the reservation owes; a step that moved nothing may still owe."""
        reservation = step.reservation
        self.count(step)
        if step.entered is not None:
            if step.entered == "CONFIRMED" and reservation.room is not None:
                self._books.tickets.bought(reservation.ticket, reservation.user)
            self._waiters.wake(reservation.id, reservation)
        await self.discharge(reservation, now_ms)

    def count(self, step: Step) -> None:
        """Show a step in the metrics. The begin of a payment is only counted: nothing follows from it yet."""
        if step.resent:
            self._metrics.resends.inc()
        if step.entered is not None:
            self._metrics.entered[step.entered].inc()
            self._observe_outcome(step.reservation)

    async def discharge(self, reservation: Reservation, now_ms: int) -> None:
        """Sell or free the seats, then note that it is done."""
        if reservation.owes is None:
            return
        if reservation.owes == "sell":
            await self._sell(reservation, now_ms)
        else:
            await self.free(reservation, now_ms)
        await self._books.reservations.update(reservation.id, partial(discharged, owed=reservation.owes))

    async def free(self, reservation: Reservation, now_ms: int) -> None:
        """Free the seats of a reservation that is dead, and its place under the cap."""
        for index, seats in reservation.seats_by_block().items():
            ids = [seat.seat for seat in seats]
            decide = partial(release, reservation=reservation.id, seats=ids, now_ms=now_ms)
            await self._books.blocks.update(block_id(reservation.schedule, index), decide)
        if reservation.capped:
            leave = partial(leave_place, reservation=reservation.id)
            await self._books.places.update(places_id(reservation.schedule, reservation.user), leave)

    async def _sell(self, reservation: Reservation, now_ms: int) -> None:
        for index, seats in reservation.seats_by_block().items():
            decide = partial(sell, reservation=reservation.id, seats=seats, now_ms=now_ms)
            lost = await self._books.blocks.update(block_id(reservation.schedule, index), decide)
            if lost and await self._owes_still(reservation):
                self._metrics.unsold_seats.inc(len(lost))
                logger.error("paid seats are not the reservation's", reservation=reservation.id, seats=lost)

    async def _owes_still(self, reservation: Reservation) -> bool:
        """False when someone else sold its seats meanwhile; they may have been refunded and freed since."""
        now = await self._books.reservations.get(reservation.id)
        return now is not None and now.owes == "sell"

    def _observe_outcome(self, reservation: Reservation) -> None:
        """The time the attempt took that has just been settled, if one has."""
        last = reservation.attempts[-1] if reservation.attempts else None
        if last is not None and last.settled_ms == reservation.updated_ms:
            self._metrics.settle_seconds.observe((last.settled_ms - last.began_ms) / 1000)
