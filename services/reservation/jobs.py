"""Background cycles: each runs one bite of the sweeping."""

from collections.abc import Awaitable, Callable

from libs.common.clock import Clock
from libs.common.jobs import Cycle
from services.reservation.metrics import ReservationMetrics
from services.reservation.service import ReservationService
from services.reservation.settings import ReservationSettings

PURGE_EVERY_S = 60.0


def cycles(
    service: ReservationService, settings: ReservationSettings, clock: Clock, metrics: ReservationMetrics
) -> list[Cycle]:
    sweeping = service.sweeping
    table: tuple[tuple[str, float, Callable[[], Awaitable[bool]]], ...] = (
        ("release_lapsed", settings.sweep_s, sweeping.release_lapsed),
        ("sweep_reservations", settings.sweep_s, sweeping.sweep_reservations),
        ("purge_keys", PURGE_EVERY_S, sweeping.purge),
    )
    return [Cycle(name, every_s, bite, clock, metrics) for name, every_s, bite in table]
