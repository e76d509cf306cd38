"""What the catalog counts, so that the seed's incident (a cache that expired under load) shows before it hurts.

A rise of `miss` against `hit` is a stampede held back by single flight; `ttl_left_seconds` near 0 says that refreshing
no longer keeps up; `snapshot_age_seconds` above two periods says the view may be missing news.
"""

from collections.abc import Callable

from prometheus_client import Counter, Gauge, Histogram

from libs.common.metrics import LATENCY_BUCKETS_S, CommonMetrics

KINDS = ("concerts", "concert", "schedule")
READS = ("hit", "stale", "miss", "absent")
SHARED_CALLS = ("hit", "miss", "error")


class CacheMetrics:
    """The series of one kind of cached thing."""

    def __init__(self, metrics: "CatalogMetrics", kind: str) -> None:
        self.reads = {outcome: metrics.cache_reads.labels(kind, outcome) for outcome in READS}
        self.shared = {outcome: metrics.shared_calls.labels(kind, outcome) for outcome in SHARED_CALLS}
        self.load_seconds = metrics.load_seconds.labels(kind)
        self.store_loads = metrics.store_loads.labels(kind)
        self.loads_failed = metrics.loads_failed.labels(kind)
        self.early = metrics.early.labels(kind)
        self._ttl_left = metrics.ttl_left.labels(kind)
        self._age = metrics.age.labels(kind)

    def watch(self, ttl_left_s: Callable[[], float], age_s: Callable[[], float]) -> None:
        """Ask these at every scrape: keeping a minimum up to date per read would cost more than the read."""
        self._ttl_left.set_function(ttl_left_s)
        self._age.set_function(age_s)


class CatalogMetrics(CommonMetrics):
    """The common series, the cache's and the view's."""

    def __init__(self) -> None:
        super().__init__("catalog")
        registry = self.registry
        self.cache_reads = Counter(
            "stagedoor_catalog_cache_reads_total",
            "Reads of the process's memory (hit, stale, miss, absent: known not to be there)",
            ["kind", "outcome"],
            registry=registry,
        )
        self.shared_calls = Counter(
            "stagedoor_catalog_shared_cache_calls_total",
            "Calls of Redis (hit; miss; error: refused or too slow, writes too)",
            ["kind", "outcome"],
            registry=registry,
        )
        self.load_seconds = Histogram(
            "stagedoor_catalog_cache_load_seconds",
            "Time to bring a thing into memory, from Redis or the store",
            ["kind"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.store_loads = Counter(
            "stagedoor_catalog_cache_store_loads_total", "Loads that asked the store", ["kind"], registry=registry
        )
        self.loads_failed = Counter(
            "stagedoor_catalog_cache_loads_failed_total", "Loads that brought nothing", ["kind"], registry=registry
        )
        self.early = Counter(
            "stagedoor_catalog_cache_early_refreshes_total",
            "Refreshes begun by a reader before the time was up",
            ["kind"],
            registry=registry,
        )
        self.ttl_left = Gauge(
            "stagedoor_catalog_cache_ttl_left_seconds",
            "Lowest time left of anything that is kept warm; the full time where there is nothing",
            ["kind"],
            registry=registry,
        )
        self.age = Gauge(
            "stagedoor_catalog_cache_age_seconds", "Age of the oldest thing in memory", ["kind"], registry=registry
        )
        self.snapshot_seconds = Histogram(
            "stagedoor_catalog_snapshot_seconds",
            "Time to fetch and merge the reservation service's account of one schedule",
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.snapshot_age = Gauge(
            "stagedoor_catalog_snapshot_age_seconds",
            "Time since a snapshot of all schedules was merged",
            registry=registry,
        )
        merged = Counter(
            "stagedoor_catalog_marks_merged_total",
            "Seat marks that were newer than what the view knew, by where they came from (event, snapshot)",
            ["source"],
            registry=registry,
        )
        self.merged = {source: merged.labels(source) for source in ("event", "snapshot")}
        self.seats_available = Gauge(
            "stagedoor_catalog_available_seats", "Free seats of all schedules in memory", registry=registry
        )
        encodings = Counter(
            "stagedoor_catalog_encodings_total", "Answers encoded because the view moved", ["answer"], registry=registry
        )
        self.encodings = {answer: encodings.labels(answer) for answer in ("seats", "schedules")}
        self.cache = {kind: CacheMetrics(self, kind) for kind in KINDS}
