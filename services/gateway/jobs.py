"""Background cycles: read the rooms, drop visits that are long over."""

from libs.common.clock import Clock
from libs.common.jobs import Cycle
from libs.common.metrics import CommonMetrics
from services.gateway.service.lines import LineTable
from services.gateway.service.sessions import SessionTable

READ_ROOMS_EVERY_S = 0.5
SWEEP_EVERY_S = 1.0


def cycles(lines: LineTable, sessions: SessionTable, clock: Clock, metrics: CommonMetrics) -> tuple[Cycle, ...]:
    """The gateway's jobs, not yet started."""

    async def sweep() -> bool:
        return sessions.sweep()

    return (
        # Often, so that a gateway that starts before the queue is ready soon after it.
        Cycle("read_rooms", READ_ROOMS_EVERY_S, lines.read_if_due, clock, metrics),
        Cycle("sweep_sessions", SWEEP_EVERY_S, sweep, clock, metrics),
    )
