"""The series every service exports, whatever its room: the shared half of each `/metrics` page.

One registry per app, so that several apps can live in one process. Children of labelled series are kept by whoever
counts (`labels()` per call costs more than the count itself). Labels are bounded: routes, topics, names of parts;
never a user, a seat or a ticket. Names end in their unit.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
SMALL_COUNT_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class CommonMetrics:
    """Requests, calls to others, consumers, the outbox and folding."""

    def __init__(self, service: str) -> None:
        self.registry = registry = CollectorRegistry()
        self.service = service
        GCCollector(registry)
        PlatformCollector(registry)
        ProcessCollector(registry=registry)

        self.http_request_seconds = Histogram(
            "stagedoor_http_request_seconds",
            "Time to answer a request, by route template and status",
            ["method", "route", "status"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.http_requests_running = Gauge(
            "stagedoor_http_requests_running", "Requests being worked on", registry=registry
        )
        self.tasks = Gauge("stagedoor_tasks", "Tasks of the event loop that are not over", registry=registry)
        self.call_seconds = Histogram(
            "stagedoor_dependency_call_seconds",
            "Time of a call to another part (store, broker, redis, a service), by outcome (ok, error, refused)",
            ["dependency", "operation", "outcome"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.handled_seconds = Histogram(
            "stagedoor_event_handling_seconds",
            "Time to handle one event, by outcome (done, poison, transient, failed)",
            ["topic", "group", "outcome"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.consumer_lag = Gauge(
            "stagedoor_consumer_lag_events",
            "Events a group has not finished",
            ["topic", "group"],
            registry=registry,
        )
        self.consumer_running = Gauge(
            "stagedoor_consumer_running",
            "1 while the consumer takes events",
            ["topic", "group"],
            registry=registry,
        )
        self.listen_gaps = Counter(
            "stagedoor_listen_gaps_total",
            "Times a listener may have missed events",
            ["topic"],
            registry=registry,
        )
        self.dead_letters = Counter(
            "stagedoor_dead_letters_total",
            "Events put aside as poison",
            ["topic", "group"],
            registry=registry,
        )
        self.published = Counter(
            "stagedoor_events_published_total", "Events the broker confirmed", ["topic"], registry=registry
        )
        self.outbox_pending = Gauge(
            "stagedoor_outbox_pending_events", "Stored events no broker has confirmed", registry=registry
        )
        self.outbox_age_seconds = Gauge(
            "stagedoor_outbox_oldest_seconds", "Age of the oldest unconfirmed event", registry=registry
        )
        self.updates_per_write = Histogram(
            "stagedoor_updates_per_write",
            "Updates of one document that were folded into one write",
            ["collection"],
            buckets=SMALL_COUNT_BUCKETS,
            registry=registry,
        )
        self.swaps_lost = Counter(
            "stagedoor_swaps_lost_total",
            "Compare-and-sets that found a newer version",
            ["collection"],
            registry=registry,
        )
        self.job_runs = Counter(
            "stagedoor_job_runs_total",
            "Bites of a background job, by outcome (done, bound, failed)",
            ["job", "outcome"],
            registry=registry,
        )
        self.dependency_up = Gauge(
            "stagedoor_dependency_up", "1 while a part answers pings", ["dependency"], registry=registry
        )
