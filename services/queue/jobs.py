"""The background of the line: rooms that are open from the start, a tick per room, expiry, and forgetting.

| cycle | every | a bite |
|---|---|---|
| `tick` | TICK_S | one tick of one room (every instance watches, the leader admits), at most 500 offers lapsed |
| `expire_sessions` | SWEEP_S | at most 100 visits of one room that ran out |
| `purge_sessions` | PURGE_S | at most 1,000 sessions of one room under its floor |
| `purge_joins` | PURGE_S | at most 1,000 keys of joins older than 24 h |
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from libs.common import log
from libs.common.clock import Clock
from libs.common.errors import Problem
from libs.common.jobs import Cycle
from services.queue.metrics import QueueMetrics
from services.queue.service.keeping import Keeping
from services.queue.service.leading import Leading
from services.queue.settings import QueueSettings

RESIGN_TIMEOUT_S = 1.0

logger = log.get_logger(__name__)


class OpenRooms:
    """A part: the rooms exist from the start, and whatever this process leads is free for others at the stop."""

    def __init__(self, keeping: Keeping, leading: Sequence[Leading]) -> None:
        self._keeping = keeping
        self._leading = leading

    async def start(self) -> None:
        await self._keeping.open_rooms()

    async def stop(self) -> None:
        """Resign. When that fails the lease runs out instead, so others wait a little longer."""
        try:
            async with asyncio.timeout(RESIGN_TIMEOUT_S):
                await asyncio.gather(*(leader.resign() for leader in self._leading))
        except (Problem, TimeoutError) as error:
            logger.warning("could not resign; the lease has to run out", error=str(error))


def cycles(
    settings: QueueSettings, keeping: Keeping, leading: Sequence[Leading], clock: Clock, metrics: QueueMetrics
) -> list[Cycle]:
    """The cycles of all rooms."""
    rows: list[tuple[str, float, Callable[[], Awaitable[bool]]]] = [
        *(("tick", settings.tick_s, leader.bite) for leader in leading),
        *(("expire_sessions", settings.sweep_s, partial(keeping.sweep, id_)) for id_ in settings.room_ids),
        *(("purge_sessions", settings.purge_s, partial(keeping.purge, id_)) for id_ in settings.room_ids),
        ("purge_joins", settings.purge_s, keeping.purge_joins),
    ]
    return [Cycle(name, every_s, bite, clock, metrics) for name, every_s, bite in rows]
