"""Background work in bounded bites: one way to run every sweeper, ticker and refresher."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from libs.common import log
from libs.common.clock import Clock
from libs.common.errors import Problem
from libs.common.metrics import CommonMetrics

BITE_TIMEOUT_S = 10.0
BACKOFF_MAX_S = 5.0

T = TypeVar("T")

logger = log.get_logger(__name__)


async def each(items: Iterable[T], act: Callable[[T], Awaitable[None]], at_once_max: int) -> bool:
    """Act on every item, `at_once_max` of them side by side; True when all went well.

    One that fails keeps no other waiting: it is logged, and a bite that could do the rest has not failed. Raises the
    first failure when nothing went well, as when the store is away.
    """
    turns = asyncio.Semaphore(at_once_max)

    async def in_turn(item: T) -> None:
        async with turns:
            await act(item)

    ended = await asyncio.gather(*map(in_turn, items), return_exceptions=True)
    failures = [outcome for outcome in ended if isinstance(outcome, BaseException)]
    if failures and len(failures) == len(ended):
        raise failures[0]
    if failures:
        shown = None if isinstance(failures[0], Problem) else failures[0]
        error, failed, of = str(failures[0]), len(failures), len(ended)
        logger.warning("part of a job failed", error=error, failed=failed, of=of, exc_info=shown)
    return not failures


class Cycle:
    """Runs `bite` every `every_s` seconds until stopped. A bite returns True when it hit its bound and more is waiting:
    the next one then follows at once. A bite that fails is logged and tried again after a growing pause."""

    def __init__(
        self, name: str, every_s: float, bite: Callable[[], Awaitable[bool]], clock: Clock, metrics: CommonMetrics
    ) -> None:
        self._name = name
        self._every_s = every_s
        self._bite = bite
        self._clock = clock
        self._outcomes = {outcome: metrics.job_runs.labels(name, outcome) for outcome in ("done", "bound", "failed")}
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._running = asyncio.create_task(self._run(), name=self._name)

    async def stop(self) -> None:
        """Stop at once, in the middle of a bite if need be: bites are made of steps that stand on their own."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def _run(self) -> None:
        failures = 0
        while True:
            outcome = await self._one_bite()
            self._outcomes[outcome].inc()
            failures = failures + 1 if outcome == "failed" else 0
            if outcome != "bound":
                # The exponent is bounded: 2 to the number of failures of some hours is more than a float can hold.
                pause_s = self._every_s * 2.0 ** min(failures, 16)
                await self._clock.sleep(min(pause_s, max(self._every_s, BACKOFF_MAX_S)))

    async def _one_bite(self) -> str:
        try:
            async with asyncio.timeout(BITE_TIMEOUT_S):
                return "bound" if await self._bite() else "done"
        except TimeoutError:
            logger.warning("job took too long", job=self._name, bound_s=BITE_TIMEOUT_S)
        except Problem as problem:
            logger.warning("job could not work", job=self._name, code=problem.code, detail=problem.detail)
        except Exception:
            logger.exception("job failed", job=self._name)
        return "failed"
