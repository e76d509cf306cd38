"""Background work in bounded bites: one way to run every sweeper, ticker and refresher."""

import asyncio
from collections.abc import Awaitable, Callable

from libs.common import log
from libs.common.clock import Clock
from libs.common.errors import Problem
from libs.common.metrics import CommonMetrics

BITE_TIMEOUT_S = 10.0
BACKOFF_MAX_S = 5.0

logger = log.get_logger(__name__)


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
