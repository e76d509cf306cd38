"""What time brings about: lapsed seats become visible, holds expire, silent payments are asked for again or called off.

Each bite is bounded, finds its work by an index, and changes nothing that another sweeper has changed: any number of
instances may sweep at once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from libs.common.clock import Clock
from services.reservation.domain.block import Block, release_lapsed
from services.reservation.domain.reservation import Reservation, swept
from services.reservation.metrics import ReservationMetrics
from services.reservation.ports import Books
from services.reservation.service.duties import Duties
from services.reservation.settings import ReservationSettings

BLOCKS_PER_BITE_MAX = 100
RESERVATIONS_PER_BITE_MAX = 500
PURGED_PER_BITE_MAX = 500
AT_ONCE_MAX = 50
"""Documents of one bite that are worked on side by side."""

KEYS_KEPT_MS = 24 * 60 * 60 * 1000
TICKETS_KEPT_MS = 7 * 24 * 60 * 60 * 1000
"""Longer than any visit: a ticket whose binding is gone could be bound anew."""

T = TypeVar("T")


class Sweeping:
    """Every method is a bite: True when it hit its bound and more is waiting."""

    def __init__(
        self, books: Books, duties: Duties, settings: ReservationSettings, clock: Clock, metrics: ReservationMetrics
    ) -> None:
        self._books = books
        self._duties = duties
        self._skew_ms = settings.clock_skew_ms
        self._clock = clock
        self._metrics = metrics

    async def release_lapsed(self) -> bool:
        """Free lapsed seats, whether their reservation was ever made or not."""
        now_ms = self._clock.now_ms()
        due = await self._books.blocks.due(now_ms - self._skew_ms, BLOCKS_PER_BITE_MAX)

        async def release(block: Block) -> None:
            decide = partial(release_lapsed, now_ms=now_ms, skew_ms=self._skew_ms)
            self._metrics.lapsed_seats.inc(await self._books.blocks.update(block.id, decide))

        await _each(due, release)
        return len(due) >= BLOCKS_PER_BITE_MAX

    async def sweep_reservations(self) -> bool:
        """Do what is due for reservations, and what they still owe their seats after a crash."""
        now_ms = self._clock.now_ms()
        due = await self._books.reservations.due(now_ms - self._skew_ms, RESERVATIONS_PER_BITE_MAX)
        self._metrics.due.set(len(due))

        async def sweep(found: Reservation) -> None:
            decide = partial(swept, now_ms=now_ms, skew_ms=self._skew_ms)
            step = await self._books.reservations.update(found.id, decide)
            await self._duties.follow(step, now_ms)

        await _each(due, sweep)
        return len(due) >= RESERVATIONS_PER_BITE_MAX

    async def purge(self) -> bool:
        """Forget payment keys and bindings that nobody can ask for any more."""
        now_ms = self._clock.now_ms()
        keys = await self._books.payment_keys.purge(now_ms - KEYS_KEPT_MS, PURGED_PER_BITE_MAX)
        tickets = await self._books.tickets.purge(now_ms - TICKETS_KEPT_MS, PURGED_PER_BITE_MAX)
        return max(keys, tickets) >= PURGED_PER_BITE_MAX


async def _each(items: Sequence[T], act: Callable[[T], Awaitable[None]]) -> None:
    """Act on every item; one that fails does not keep the others waiting. The first failure is raised at the end."""
    failures: list[BaseException] = []
    for start in range(0, len(items), AT_ONCE_MAX):
        ended = await asyncio.gather(*map(act, items[start : start + AT_ONCE_MAX]), return_exceptions=True)
        failures += [outcome for outcome in ended if isinstance(outcome, BaseException)]
    if failures:
        raise failures[0]
