"""Looking at reservations, payments and seats."""

from libs.common.clock import Clock
from libs.common.web.admission import Admission
from services.reservation.domain.block import SeatState
from services.reservation.domain.problems import ReservationNotFound, ScheduleNotFound
from services.reservation.domain.reservation import ATTEMPTS_MAX, Reservation, owned
from services.reservation.ports import Books
from services.reservation.service.paying import Payment


class Reading:
    def __init__(self, books: Books, clock: Clock) -> None:
        self._books = books
        self._clock = clock

    async def reservation(self, admission: Admission, reservation_id: str) -> Reservation:
        """Raises SessionExpired, ReservationNotFound, NotYours."""
        return owned(await self._books.reservations.get(reservation_id), admission, self._clock.now_ms())

    async def payment(self, admission: Admission, payment_id: str) -> Payment:
        """The attempt `<reservation id>-<n>`. Raises SessionExpired, ReservationNotFound, NotYours."""
        reservation_id, _, digits = payment_id.rpartition("-")
        reservation = await self.reservation(admission, reservation_id)
        is_number = digits.isascii() and digits.isdigit() and len(digits) <= len(str(ATTEMPTS_MAX))
        attempt = reservation.attempt(int(digits)) if is_number else None
        if attempt is None:
            raise ReservationNotFound("This reservation has no such payment; the answer to the payment gives its id.")
        return Payment(reservation, attempt, attempt.look_again_s(self._clock.now_ms()))

    async def touched_seats(self, schedule: int) -> list[tuple[int, int, SeatState]]:
        """Every seat of a schedule that anybody ever held, free again ones too: its id, its `n` and its state."""
        blocks = await self._books.blocks.of_schedule(schedule)
        return [(seat, n, state) for block in blocks for seat, n, state, *_ in block.rows.values()]

    async def warm(self, schedule: int) -> None:
        """Have the layout of a schedule at hand before its first hold. Raises DependencyDown."""
        try:
            await self._books.schedules.layout(schedule)
        except ScheduleNotFound:
            # The copy of the catalog that answered has not seen it yet; the first hold asks again.
            return
