"""Every series there is, read from the services' own catalogues: a panel cannot name one that no service exports."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache

from prometheus_client.metrics import MetricWrapperBase

from libs.common.metrics import CommonMetrics
from services.catalog.metrics import CatalogMetrics
from services.gateway.metrics import GatewayMetrics
from services.queue.metrics import QueueMetrics
from services.reservation.metrics import ReservationMetrics
from services.wallet.metrics import WalletMetrics

SERVICES = ("gateway", "queue", "catalog", "reservation", "wallet")
"""The `job` label of each service's targets, as `infra/prometheus/prometheus.yml` has them."""


@dataclass(frozen=True, slots=True)
class Series:
    """`name` as it is queried, a histogram without its endings; `services` are those that export it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    says: str
    services: tuple[str, ...]


# Collectors of the client library and Prometheus's own: their names stand in no catalogue of ours.
_GIVEN = (
    Series("process_cpu_seconds_total", "counter", (), "CPU time a process has used", SERVICES),
    Series("process_resident_memory_bytes", "gauge", (), "Memory a process holds", SERVICES),
    Series("process_open_fds", "gauge", (), "Files and connections a process has open", SERVICES),
    Series("process_start_time_seconds", "gauge", (), "When a process began", SERVICES),
    Series("up", "gauge", (), "1 while a copy can be scraped", SERVICES),
)


@cache
def catalogue() -> Mapping[str, Series]:
    """Each series by its name."""
    found = {series.name: series for series in _GIVEN}
    rooms = (GatewayMetrics(), QueueMetrics((1,)), CatalogMetrics(), ReservationMetrics(), WalletMetrics())
    for metrics in rooms:
        for series in _series_of(metrics):
            known = found.get(series.name)
            found[series.name] = replace(known, services=(*known.services, metrics.service)) if known else series
    return found


def _series_of(metrics: CommonMetrics) -> Iterator[Series]:
    # The library tells label names nowhere else before a child of the series exists.
    for collector in metrics.registry._collector_to_names:  # noqa: SLF001
        if not isinstance(collector, MetricWrapperBase):
            continue
        kind = collector._type or ""  # noqa: SLF001
        name = collector._name + ("_total" if kind == "counter" else "")  # noqa: SLF001
        # A target's own `job` label wins, and Prometheus renames the series' one.
        labels = tuple("exported_job" if label == "job" else label for label in collector._labelnames)  # noqa: SLF001
        yield Series(name, kind, labels, collector._documentation, (metrics.service,))  # noqa: SLF001
