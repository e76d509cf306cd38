"""Paying a reservation: pin its seats, ask the wallet, wait for the outcome as long as a caller can be kept waiting.

A caller that hangs up changes nothing: from PAYING on, the wallet's answer or the deadline decides.
"""

from dataclasses import dataclass
from functools import partial

from libs.common.clock import Clock
from libs.common.errors import IdempotencyMismatch, SessionExpired
from libs.common.web.admission import Admission
from libs.common.web.idempotency import IdempotencyKey
from services.reservation.domain.block import block_id, pin
from services.reservation.domain.problems import HoldExpired
from services.reservation.domain.reservation import (
    OTHER_BODY,
    Attempt,
    Reservation,
    begin_payment,
    found,
    is_paid,
    owned,
)
from services.reservation.ports import Books
from services.reservation.service.duties import Duties
from services.reservation.service.silence import WalletSilence
from services.reservation.service.waiting import Waiter, Waiters
from services.reservation.settings import ReservationSettings


@dataclass(frozen=True, slots=True)
class Payment:
    """An attempt as it stands, and whether the call that asks has been answered with it before. `look_again_s`: when
    to ask for its outcome, None when that is known."""

    reservation: Reservation
    attempt: Attempt
    look_again_s: int | None
    replayed: bool = False


class Paying:
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

    async def pay(self, admission: Admission, user: int, reservation_id: str, key: IdempotencyKey) -> Payment:
        """Pay once, however often it is asked; the payment, still PENDING when its outcome takes too long.

        Raises SessionExpired, ReservationNotFound, NotYours, HoldExpired, NotEnoughPoints, RequestInProgress,
        IdempotencyMismatch, RateLimited, DependencyDown.
        """
        now_ms = self._clock.now_ms()
        known = owned(await self._books.reservations.get(reservation_id), admission, now_ms, user)
        with self._waiters.waiting(reservation_id) as waiter:
            reservation = await self._begin(known, admission, key, now_ms)
            n = len(reservation.attempts)
            reservation = await self._outcome(reservation, n, waiter)
        attempt = reservation.attempts[n - 1]
        look_again_s = attempt.look_again_s(self._clock.now_ms())
        return Payment(reservation, attempt, look_again_s, replayed=n <= len(known.attempts))

    async def _begin(self, known: Reservation, admission: Admission, key: IdempotencyKey, now_ms: int) -> Reservation:
        """The reservation with the attempt to wait for as its last: begun now, joined, or paid already."""
        decide = partial(
            begin_payment,
            attempt=Attempt(
                n=len(known.attempts) + 1,
                key=key.value,
                body_digest=key.body_digest,
                began_ms=now_ms,
                deadline_ms=now_ms + self._settings.pay_deadline_ms,
                sent_ms=now_ms,
            ),
            seen_count=len(known.attempts),
            now_ms=now_ms,
            skew_ms=self._settings.clock_skew_ms,
        )
        # Decided on what was read, before anything is touched: refusals cost no write, and a twin only joins.
        try:
            rehearsed = decide(known)
        except HoldExpired:
            if await self._came_before_refund(known, key):
                return known
            raise
        if rehearsed.state is None:
            # Paying what is paid answers with the payment there was, and uses up the key all the same.
            await self._claim_key(known, key, now_ms)
            return rehearsed.result.reservation
        if admission.is_over(now_ms, self._settings.clock_skew_ms):
            raise SessionExpired("This visit is over; it can repeat a payment, not begin one.")
        self._silence.check()
        await self._claim_key(known, key, now_ms)
        await self._pin(known, now_ms)
        try:
            step = await self._books.reservations.update(known.id, decide)
        except HoldExpired:
            # It ended after we had read it. What we pinned must not wait for whoever ended it: they may have crashed.
            ended = await self._books.reservations.get(known.id)
            if ended is not None and ended.is_dead:
                await self._duties.free(ended, now_ms)
            raise
        self._duties.count(step)
        return step.reservation

    async def _claim_key(self, known: Reservation, key: IdempotencyKey, now_ms: int) -> None:
        """A key that a client gave pays one reservation with one body; ours are never seen twice."""
        if key.made or any(attempt.key == key.value for attempt in known.attempts):
            return
        if not await self._books.payment_keys.claim(known.user, key.value, known.id, key.body_digest, now_ms):
            raise IdempotencyMismatch(OTHER_BODY)

    async def _came_before_refund(self, known: Reservation, key: IdempotencyKey) -> bool:
        """True for a key that was claimed for this payment before its refund: it may have been answered with it, as the
        key that began it was, and the first answer stays. A key that comes after it claims nothing.

        Raises IdempotencyMismatch.
        """
        if key.made or known.status not in ("REFUNDING", "REFUNDED"):
            return False
        is_same = await self._books.payment_keys.was_claimed(known.user, key.value, known.id, key.body_digest)
        if is_same is False:
            raise IdempotencyMismatch(OTHER_BODY)
        return is_same is True

    async def _pin(self, known: Reservation, now_ms: int) -> None:
        """From here on the seats do not lapse. Raises HoldExpired."""
        for index, seats in known.seats_by_block().items():
            decide = partial(
                pin, reservation=known.id, seats=seats, now_ms=now_ms, skew_ms=self._settings.clock_skew_ms
            )
            await self._books.blocks.update(block_id(known.schedule, index), decide)

    async def _outcome(self, reservation: Reservation, n: int, waiter: Waiter) -> Reservation:
        """The reservation when attempt `n` has charged, or as it is when the time to wait is over.

        Raises NotEnoughPoints, HoldExpired.
        """
        until_s = self._clock.monotonic_s() + self._settings.pay_wait_s
        while not is_paid(reservation, n):
            if not await waiter.news(until_s - self._clock.monotonic_s()):
                reservation = found(await self._books.reservations.get(reservation.id))
                is_paid(reservation, n)
                break
            reservation = waiter.latest or found(await self._books.reservations.get(reservation.id))
        return reservation
