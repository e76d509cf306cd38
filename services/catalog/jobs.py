"""Background cycles: keep the caches warm, and read the truth about seats afresh."""

from libs.common.clock import Clock
from libs.common.jobs import Cycle
from services.catalog.metrics import CatalogMetrics
from services.catalog.service.library import Library
from services.catalog.service.snapshots import LOOK_EVERY_S, Snapshots

KEEP_WARM_EVERY_S = 0.5


def cycles(library: Library, snapshots: Snapshots, clock: Clock, metrics: CatalogMetrics) -> tuple[Cycle, ...]:
    """The room's background cycles."""
    return (
        Cycle("catalog_keep_warm", KEEP_WARM_EVERY_S, library.keep_warm, clock, metrics),
        Cycle("catalog_snapshots", LOOK_EVERY_S, snapshots.bite, clock, metrics),
    )
