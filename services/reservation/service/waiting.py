"""Callers that wait for the outcome of a payment, and who wakes them.

Any instance may settle a reservation: this one wakes its callers directly and hands them what it settled, the others
hear of it (`reservation.outcomes.v1`). A wake-up is a reason to look again, never an answer in itself.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from libs.common.errors import Overloaded
from services.reservation.domain.reservation import Reservation
from services.reservation.metrics import ReservationMetrics

WAITERS_MAX = 20_000


class Waiter:
    """One caller's ear. `latest` is the reservation as whoever woke it knew it, None when it has to be read."""

    def __init__(self) -> None:
        self.latest: Reservation | None = None
        self._woken = asyncio.Event()

    def wake(self, latest: Reservation | None) -> None:
        self.latest = latest
        self._woken.set()

    async def news(self, within_s: float) -> bool:
        """True when there is news, False when none came within the time. News from before the call counts."""
        try:
            async with asyncio.timeout(within_s):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True


class Waiters:
    """The waiting callers of this process, by reservation."""

    def __init__(self, metrics: ReservationMetrics) -> None:
        self._metrics = metrics
        self._waiting: dict[str, dict[Waiter, None]] = {}
        """In the order they came, and woken in it: a set's order would be another in every process."""
        self._count = 0

    @contextmanager
    def waiting(self, reservation: str) -> Iterator[Waiter]:
        """Hear of a reservation while the body of the `with` runs. Raises Overloaded when too many do."""
        if self._count >= WAITERS_MAX:
            raise Overloaded("Too many payments are waiting for their outcome.", retry_after_s=1)
        waiter = Waiter()
        self._waiting.setdefault(reservation, {})[waiter] = None
        self._count += 1
        self._metrics.waiting.inc()
        try:
            yield waiter
        finally:
            self._count -= 1
            self._metrics.waiting.dec()
            waiters = self._waiting[reservation]
            del waiters[waiter]
            if not waiters:
                del self._waiting[reservation]

    def wake(self, reservation: str, latest: Reservation | None = None) -> None:
        for waiter in self._waiting.get(reservation, ()):
            waiter.wake(latest)

    def wake_all(self) -> None:
        """Something may have been missed: everyone looks again."""
        for reservation in self._waiting:
            self.wake(reservation)
