"""The wallet's answers, the news of what other instances settled, and refunds."""

from collections.abc import Callable
from functools import partial

from libs.common import log
from libs.common.clock import Clock
from libs.common.errors import Poison
from services.reservation.domain.problems import ReservationNotFound
from services.reservation.domain.reservation import Change, Reservation, called_off, completed, declined, refund
from services.reservation.ports import Books
from services.reservation.service.duties import Duties
from services.reservation.service.silence import WalletSilence
from services.reservation.service.waiting import Waiters
from services.reservation.settings import ReservationSettings

logger = log.get_logger(__name__)


class Settling:
    """Each outcome names its attempt and may come late, twice or out of order: the domain sorts that out."""

    def __init__(
        self,
        books: Books,
        duties: Duties,
        waiters: Waiters,
        settings: ReservationSettings,
        clock: Clock,
        *,
        silence: WalletSilence,
    ) -> None:
        self._books = books
        self._duties = duties
        self._waiters = waiters
        self._settings = settings
        self._clock = clock
        self._silence = silence

    async def completed(self, reservation_id: str, attempt: int) -> None:
        """The attempt was charged: confirm and sell, or call it off if nobody waits for it any more."""
        now_ms = self._clock.now_ms()
        await self._settle(reservation_id, partial(completed, n=attempt, now_ms=now_ms), now_ms)

    async def declined(self, reservation_id: str, attempt: int) -> None:
        now_ms = self._clock.now_ms()
        skew_ms = self._settings.clock_skew_ms
        await self._settle(reservation_id, partial(declined, n=attempt, now_ms=now_ms, skew_ms=skew_ms), now_ms)

    async def called_off(self, reservation_id: str, attempt: int) -> None:
        """The attempt is void or refunded."""
        now_ms = self._clock.now_ms()
        await self._settle(reservation_id, partial(called_off, n=attempt, now_ms=now_ms), now_ms)

    async def refund(self, reservation_id: str, who: str, why: str) -> Reservation:
        """An operator gives the points back; the seats are free when this returns, the points follow.

        Raises ReservationNotFound, NotPaid, RequestInProgress.
        """
        now_ms = self._clock.now_ms()
        step = await self._books.reservations.update(reservation_id, partial(refund, now_ms=now_ms))
        logger.info(
            "reservation refunded", reservation=reservation_id, who=who, why=why, status=step.reservation.status
        )
        await self._duties.follow(step, now_ms)
        return step.reservation

    def heard(self, reservation_id: str) -> None:
        """Some instance has settled a reservation."""
        self._waiters.wake(reservation_id)

    def heard_declined(self, reservation_id: str) -> None:
        """Some instance has heard from the wallet that a payment was declined."""
        self._silence.heard()
        self.heard(reservation_id)

    def heard_confirmed(self, reservation_id: str, ticket: str, user: int, *, is_static: bool) -> None:
        """Some instance has confirmed a purchase: the ticket has done its work."""
        if not is_static:
            self._books.tickets.bought(ticket, user)
        self._silence.heard()
        self.heard(reservation_id)

    async def missed(self) -> None:
        """News may have been missed: believe nothing that only news keeps true."""
        self._books.tickets.forget()
        self._waiters.wake_all()

    async def _settle(self, id_: str, decide: Callable[[Reservation | None], Change], now_ms: int) -> None:
        self._silence.heard()
        try:
            step = await self._books.reservations.update(id_, decide)
        except ReservationNotFound:
            raise Poison(f"the wallet answered for a reservation that is not there: {id_}") from None
        await self._duties.follow(step, now_ms)
