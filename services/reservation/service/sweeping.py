"""What time brings about: lapsed seats become visible, holds expire, silent payments are asked for again or called off.

Each bite is bounded, finds its work by an index, and changes nothing that another sweeper has changed: any number of
instances may sweep at once.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from libs.common.clock import Clock
from libs.common.jobs import each
from libs.common.storage.ports import Decision
from services.reservation.domain.block import Block, release_lapsed
from services.reservation.domain.reservation import Change, Reservation, swept
from services.reservation.metrics import ReservationMetrics
from services.reservation.ports import Books
from services.reservation.service.duties import Duties
from services.reservation.service.silence import WalletSilence
from services.reservation.settings import ReservationSettings

BLOCKS_PER_BITE_MAX = 100
RESERVATIONS_PER_BITE_MAX = 500
PURGED_PER_BITE_MAX = 500
AT_ONCE_MAX = 50
"""Documents of one bite that are worked on side by side."""

KEYS_KEPT_MS = 24 * 60 * 60 * 1000
TICKETS_KEPT_MS = 7 * 24 * 60 * 60 * 1000
"""Longer than any visit: a ticket whose binding is gone could be bound anew."""


class Sweeping:
    """Every method is a bite: True when it hit its bound, all went well, and more is waiting. `is_heard` says whether
    the broker takes what is published."""

    def __init__(
        self,
        books: Books,
        duties: Duties,
        settings: ReservationSettings,
        clock: Clock,
        metrics: ReservationMetrics,
        *,
        silence: WalletSilence,
        is_heard: Callable[[], bool],
    ) -> None:
        self._books = books
        self._duties = duties
        self._skew_ms = settings.clock_skew_ms
        self._clock = clock
        self._metrics = metrics
        self._silence = silence
        self._is_heard = is_heard

    async def release_lapsed(self) -> bool:
        """Free lapsed seats, whether their reservation was ever made or not."""
        now_ms = self._clock.now_ms()
        due = await self._books.blocks.due(now_ms - self._skew_ms, BLOCKS_PER_BITE_MAX)

        async def release(block: Block) -> None:
            decide = partial(release_lapsed, now_ms=now_ms, skew_ms=self._skew_ms)
            self._metrics.lapsed_seats.inc(await self._books.blocks.update(block.id, decide))

        return await each(due, release, AT_ONCE_MAX) and len(due) >= BLOCKS_PER_BITE_MAX

    async def sweep_reservations(self) -> bool:
        """Do what is due for reservations, and what they still owe their seats after a crash."""
        now_ms = self._clock.now_ms()
        due = await self._books.reservations.due(now_ms - self._skew_ms, RESERVATIONS_PER_BITE_MAX)
        self._metrics.due.set(len(due))

        def decide(known: Reservation | None) -> Change:
            decision = swept(known, now_ms, self._skew_ms)
            if not decision.result.resent or self._is_heard():
                return decision
            # The question before this one waits in the outbox: when the broker is back, it is told, and once will do.
            return Decision(replace(decision.result, resent=False), decision.state)

        async def sweep(found: Reservation) -> None:
            step = await self._books.reservations.update(found.id, decide)
            if step.entered == "CANCELLING":
                self._silence.overdue()
            await self._duties.follow(step, now_ms)

        return await each(due, sweep, AT_ONCE_MAX) and len(due) >= RESERVATIONS_PER_BITE_MAX

    async def purge(self) -> bool:
        """Forget payment keys and bindings that nobody can ask for any more."""
        now_ms = self._clock.now_ms()
        keys = await self._books.payment_keys.purge(now_ms - KEYS_KEPT_MS, PURGED_PER_BITE_MAX)
        tickets = await self._books.tickets.purge(now_ms - TICKETS_KEPT_MS, PURGED_PER_BITE_MAX)
        return max(keys, tickets) >= PURGED_PER_BITE_MAX
