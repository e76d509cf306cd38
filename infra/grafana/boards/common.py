"""The rows that every service's dashboard ends with: its requests, what it stands on, and its processes; and what more
than one dashboard shows."""

from infra.grafana.panels import Row, graph
from infra.grafana.queries import level, mean, quantile, rate, ratio

_REQUESTS = "stagedoor_http_request_seconds"
_CALLS = "stagedoor_dependency_call_seconds"


_SETTLED = "stagedoor_reservation_settle_seconds"

SETTLING = graph(
    "Begin of a payment to its outcome",
    "s",
    ("half", quantile(0.5, _SETTLED)),
    ("95 of 100", quantile(0.95, _SETTLED)),
    ("99 of 100", quantile(0.99, _SETTLED)),
)


def requests(service: str) -> Row:
    """What is asked of it, and how it answers."""
    route = "{{method}} {{route}}"
    return Row(
        "Requests",
        (
            graph("Requests", "reqps", (route, rate(_REQUESTS, "method route", job=service))),
            graph(
                "Slowest in a hundred",
                "s",
                (route, quantile(0.99, _REQUESTS, "method route", job=service)),
                says="99 of 100 requests of a route were answered within this time.",
            ),
            graph(
                "Failed requests",
                "reqps",
                (f"{route} {{{{status}}}}", rate(_REQUESTS, "method route status", job=service, status="~5..")),
                says="Answers with a 5xx. Empty while there is none.",
            ),
        ),
    )


def parts(service: str, *, calls: bool = True) -> Row:
    """What it stands on; `calls` where it asks other services."""
    panels = [
        graph(
            "Parts that answer",
            "short",
            ("{{dependency}}", level("stagedoor_dependency_up", "min", "dependency", job=service)),
            says="1 while a part answers pings at every copy; asked whenever /readyz is.",
            red_until=1,
        ),
        graph(
            "Background work",
            "ops",
            ("{{exported_job}} {{outcome}}", rate("stagedoor_job_runs_total", "exported_job outcome", job=service)),
            says="Bites of each job. `bound` means that more was waiting, `failed` is in the log.",
        ),
    ]
    if calls:
        panels += [
            graph(
                "Calls to other services",
                "reqps",
                ("{{dependency}} {{outcome}}", rate(_CALLS, "dependency outcome", job=service)),
            ),
            graph(
                "Slowest call in twenty",
                "s",
                ("{{dependency}}", quantile(0.95, _CALLS, "dependency", job=service)),
                says="95 of 100 calls were answered within this time.",
            ),
        ]
    return Row("What it stands on", tuple(panels))


def store(service: str) -> Row:
    """Folding and the outbox of a service with documents."""
    folded = "stagedoor_updates_per_write"
    return Row(
        "Documents",
        (
            graph(
                "Updates in one write",
                "short",
                ("{{collection}}", mean(folded, "collection", job=service)),
                says="Updates of one document that were folded into one write, on average. It grows with the crowd; "
                "that is what folding is for.",
            ),
            graph(
                "Writes",
                "wps",
                ("{{collection}}", rate(folded, "collection", job=service)),
                says="Compare-and-sets of each collection.",
            ),
            graph(
                "Lost compare-and-sets",
                "percentunit",
                (
                    "{{collection}}",
                    ratio(
                        rate("stagedoor_swaps_lost_total", "collection", job=service),
                        rate(folded, "collection", job=service),
                    ),
                ),
                says="Share of writes that found a newer version and were decided again: copies that meet in one "
                "document.",
            ),
            graph(
                "Events not confirmed yet",
                "short",
                ("waiting", level("stagedoor_outbox_pending_events", job=service)),
            ),
            graph(
                "Oldest event not confirmed",
                "s",
                ("age", level("stagedoor_outbox_oldest_seconds", job=service)),
                red_from=30,
            ),
        ),
    )


def processes(service: str) -> Row:
    """The machine's side of it."""
    return Row(
        "Processes",
        (
            graph(
                "CPU",
                "percentunit",
                ("{{instance}}", rate("process_cpu_seconds_total", "instance", job=service)),
                says="Share of one core. A process has one thread for its work: near 1 it is full.",
            ),
            graph(
                "Memory", "bytes", ("{{instance}}", level("process_resident_memory_bytes", by="instance", job=service))
            ),
            graph("Open files", "short", ("{{instance}}", level("process_open_fds", by="instance", job=service))),
            graph(
                "Tasks",
                "short",
                ("{{instance}}", level("stagedoor_tasks", by="instance", job=service)),
                says="One a connection, and those of the background jobs; what grows without calls is a leak.",
            ),
            graph(
                "Requests at work",
                "short",
                ("{{instance}}", level("stagedoor_http_requests_running", by="instance", job=service)),
            ),
        ),
    )
