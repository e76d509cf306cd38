"""Background cycles: keep the caches warm, and read the truth about seats afresh."""

from libs.common.clock import Clock
from libs.common.jobs import Cycle
from services.catalog.metrics import CatalogMetrics
from services.catalog.service.library import Library
from services.catalog.service.snapshots import Snapshots

KEEP_WARM_EVERY_S = 0.5

SNAPSHOT_LOOK_EVERY_S = 0.25
"""How often the job looks whether a round is due. Short, because a failed look backs off from here: at a start of the
whole system the reservation service is a moment late, and a catalog is ready only after its first round."""


def cycles(library: Library, snapshots: Snapshots, clock: Clock, metrics: CatalogMetrics) -> tuple[Cycle, ...]:
    """The room's background cycles."""
    return (
        Cycle("catalog_keep_warm", KEEP_WARM_EVERY_S, library.keep_warm, clock, metrics),
        Cycle("catalog_snapshots", SNAPSHOT_LOOK_EVERY_S, snapshots.bite, clock, metrics),
    )
