"""The reservation service's own account of every schedule, merged into the view: at the start, after a gap, regularly.

A round asks for each schedule once, in bounded bites. Listening begins before the first round, so that news is either
in the snapshot or heard; what is in both merges to the same. The first round and those after a gap hurry; a regular one
only confirms what was heard, so it is spread over its period: asked all at once, hundreds of schedules would hold up
the very service that decides about seats.
"""

import asyncio
import math
from collections import deque
from itertools import islice

from libs.common.clock import Clock
from libs.common.errors import DependencyDown
from services.catalog.domain import mark
from services.catalog.metrics import CatalogMetrics
from services.catalog.ports import SeatNews
from services.catalog.service.library import Library
from services.catalog.service.view import View

BITE_COUNT_MAX = 32
"""Schedules one bite asks for; with the two figures below it stays under the 10 s a bite may take."""

LOOK_EVERY_S = 0.25
"""How often the job takes a bite. Short, because a failed one backs off from here: at a start of the whole system the
reservation service is a moment late, and a catalog is ready only after its first round."""

RUNNING_MAX = 8
TIMEOUT_S = 2.0


class Snapshots:
    """Rounds of snapshots, one every `every_s` seconds."""

    def __init__(
        self, news: SeatNews, library: Library, view: View, clock: Clock, metrics: CatalogMetrics, *, every_s: float
    ) -> None:
        self._news = news
        self._library = library
        self._view = view
        self._clock = clock
        self._seconds = metrics.snapshot_seconds
        self._every_s = every_s
        self._waiting: deque[int] = deque()
        self._in_round = False
        self._untried_count = 0
        """Schedules of this round that were not asked for yet: what waits beside them has failed."""

        self._bite_count = BITE_COUNT_MAX
        self._turn = asyncio.Lock()
        self._due_s = float("-inf")
        self._merged_s: float | None = None
        metrics.snapshot_age.set_function(self._age_s)

    async def ping(self) -> None:
        """Raises DependencyDown until all schedules were merged once."""
        if self._merged_s is None:
            raise DependencyDown("No snapshot of the seats was merged yet.")

    async def bite(self) -> bool:
        """A bounded part of a round, if one is due; True when more should follow at once. Raises DependencyDown."""
        async with self._turn:
            is_due = self._clock.monotonic_s() >= self._due_s
            if not self._in_round and not is_due:
                return False
            # What always fails must not keep the others in one round for ever.
            if is_due and not self._untried_count:
                await self._begin(in_a_hurry=self._merged_s is None)
            return await self._go_on() and self._bite_count == BITE_COUNT_MAX

    async def after_gap(self) -> None:
        """Events may have been missed: ask for everything again, from the first schedule to the last."""
        async with self._turn:
            await self._begin(in_a_hurry=True)
        while True:
            async with self._turn:
                if not await self._go_on():
                    return

    async def _begin(self, *, in_a_hurry: bool) -> None:
        self._waiting = deque(await self._library.schedule_ids())
        self._untried_count = len(self._waiting)
        self._in_round = True
        spread = math.ceil(len(self._waiting) * LOOK_EVERY_S / self._every_s)
        self._bite_count = BITE_COUNT_MAX if in_a_hurry else min(BITE_COUNT_MAX, max(1, spread))
        self._due_s = self._clock.monotonic_s() + self._every_s

    async def _go_on(self) -> bool:
        # They leave the line once they were asked for: a bite may be cut off in between.
        batch = list(islice(self._waiting, self._bite_count))
        running = asyncio.Semaphore(RUNNING_MAX)

        async def merge(schedule: int) -> None:
            async with running:
                await self._merge(schedule)

        results = await asyncio.gather(*(merge(schedule) for schedule in batch), return_exceptions=True)
        for _ in batch:
            self._waiting.popleft()
        self._untried_count = max(0, self._untried_count - len(batch))
        failed = [schedule for schedule, result in zip(batch, results, strict=True) if result is not None]
        if failed:
            self._waiting.extend(failed)
            raise next(result for result in results if result is not None)
        if self._waiting:
            return True
        self._in_round = False
        self._merged_s = self._clock.monotonic_s()
        return False

    async def _merge(self, schedule: int) -> None:
        began_s = self._clock.monotonic_s()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                touched = await self._news.touched(schedule)
        except TimeoutError:
            raise DependencyDown("The reservation service does not answer in time.", retry_after_s=1) from None
        self._view.merge(schedule, ((seat, mark(n, state)) for seat, n, state in touched), "snapshot")
        self._seconds.observe(self._clock.monotonic_s() - began_s)

    def _age_s(self) -> float:
        return float("inf") if self._merged_s is None else self._clock.monotonic_s() - self._merged_s
