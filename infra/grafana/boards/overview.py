"""The first page: are people served, and if not, which service is it?"""

from infra.grafana.panels import Board, Row, graph, stat
from infra.grafana.queries import Query, level, quantile, rate, ratio
from infra.grafana.series import SERVICES

_OURS = f"~{'|'.join(SERVICES)}"
_REQUESTS = "stagedoor_http_request_seconds"


def _of_all_rooms(name: str) -> Query:
    """Every copy of the queue tells the same of a room, so a sum over copies would count people twice."""
    room = level(name, by="room")
    return Query(f"sum ({room.expr})", room.says)


_FIRING = Query('count(ALERTS{alertstate="firing"}) or vector(0)', "Alerts that fire; each has a page in docs/runbooks")
_BURN = Query(
    "journey:burn:rate5m", "How many times faster than allowed the journey's budget of bad answers is used up"
)
_ASKED = Query("journey:requests:rate1m", "Requests of each journey at the gateways")
_BAD = Query("journey:bad:rate1m / journey:requests:rate1m", "Share of answers that were too slow or a 5xx")

BOARD = Board(
    "overview",
    "Overview",
    "Are people served, and if not, which journey and which service is it?",
    (
        Row(
            "Now",
            (
                stat("Alerts", "short", _FIRING, red_from=1),
                stat("In line", "short", _of_all_rooms("stagedoor_queue_waiting_people")),
                stat("Inside", "short", _of_all_rooms("stagedoor_queue_open_sessions")),
                stat("Seats left", "short", level("stagedoor_catalog_available_seats")),
                stat("Requests", "reqps", rate(_REQUESTS, job="gateway"), says="Requests at all gateways."),
                stat(
                    "Copies that answer",
                    "short",
                    level("up", "sum", job=_OURS),
                    says="Copies of all services that can be scraped.",
                    red_until=len(SERVICES),
                ),
            ),
        ),
        Row(
            "Journeys",
            (
                graph(
                    "Use of the budget",
                    "short",
                    ("{{journey}}", _BURN),
                    red_from=14.4,
                    says="1 uses up just what the objective allows; from 14.4 on it pages.",
                ),
                graph("Requests", "reqps", ("{{journey}}", _ASKED)),
                graph("Bad answers", "percentunit", ("{{journey}}", _BAD)),
                graph(
                    "Slowest in a hundred",
                    "s",
                    ("{{method}} {{route}}", quantile(0.99, _REQUESTS, "method route", job="gateway")),
                    says="99 of 100 requests of a route were answered within this time.",
                ),
            ),
        ),
        Row(
            "Services",
            (
                graph("Copies", "short", ("{{job}}", level("up", "sum", "job", job=_OURS)), red_until=1),
                graph(
                    "Failed requests",
                    "reqps",
                    ("{{job}}", rate(_REQUESTS, "job", status="~5..")),
                    says="Answers with a 5xx. Empty while there is none.",
                ),
                graph(
                    "CPU",
                    "percentunit",
                    ("{{job}} {{instance}}", rate("process_cpu_seconds_total", "job instance", job=_OURS)),
                    says="Share of one core; near 1 a process is full.",
                ),
                graph(
                    "Memory",
                    "bytes",
                    ("{{job}} {{instance}}", level("process_resident_memory_bytes", "sum", "job instance", job=_OURS)),
                ),
                graph(
                    "Age of each process",
                    "s",
                    (
                        "{{job}} {{instance}}",
                        Query(f"time() - {level('process_start_time_seconds', 'max', 'job instance', job=_OURS).expr}"),
                    ),
                    says="A line that falls to 0 is a restart.",
                ),
                graph(
                    "Breakers",
                    "short",
                    ("{{upstream}}", level("stagedoor_gateway_breaker_open", by="upstream")),
                    red_from=1,
                ),
            ),
        ),
        Row(
            "What everything waits for",
            (
                graph(
                    "Reads the cache could not answer",
                    "percentunit",
                    (
                        "{{kind}}",
                        ratio(
                            rate("stagedoor_catalog_cache_reads_total", "kind", outcome="~miss|stale"),
                            rate("stagedoor_catalog_cache_reads_total", "kind"),
                        ),
                    ),
                    red_from=0.1,
                    says="The incident that this page was made for began here.",
                ),
                graph(
                    "Events not finished",
                    "short",
                    ("{{topic}} → {{group}}", level("stagedoor_consumer_lag_events", by="topic group")),
                    red_from=500,
                ),
                graph(
                    "Oldest event not confirmed",
                    "s",
                    ("{{job}}", level("stagedoor_outbox_oldest_seconds", by="job")),
                    red_from=30,
                ),
            ),
        ),
    ),
)
