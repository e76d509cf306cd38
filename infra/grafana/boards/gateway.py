"""Who is let in, what is refused early, and how the services behind the gateway do."""

from infra.grafana.boards.common import parts, processes, requests
from infra.grafana.panels import Board, Row, graph
from infra.grafana.queries import level, quantile, rate, ratio

_G = "stagedoor_gateway"
_ADMISSIONS = rate(f"{_G}_admissions_total")

BOARD = Board(
    "gateway",
    "Gateway",
    "Is the door open: who is let in, what is refused, and is something behind it broken?",
    (
        Row(
            "The door",
            (
                graph(
                    "Tickets checked",
                    "reqps",
                    ("{{outcome}}", rate(f"{_G}_admissions_total", "outcome")),
                    says="By outcome. `waiting` are people who poll, `refused_ended` visits that are over.",
                ),
                graph("Claims", "reqps", ("{{state}}", rate(f"{_G}_claims_total", "state"))),
                graph(
                    "Tickets not known",
                    "percentunit",
                    ("asked at the queue", ratio(rate(f"{_G}_session_lookups_total"), _ADMISSIONS)),
                    says="Share of checks for which the queue had to be asked. Near 1 for long: events of visits do "
                    "not arrive.",
                    red_from=0.5,
                ),
                graph("Visits remembered", "short", ("{{instance}}", level(f"{_G}_known_sessions", by="instance"))),
                graph(
                    "Silence of the line",
                    "s",
                    ("{{instance}}", level(f"{_G}_line_age_seconds", by="instance")),
                    red_from=5,
                ),
                graph(
                    "Polls answered",
                    "s",
                    (
                        "99 of 100",
                        quantile(
                            0.99, "stagedoor_http_request_seconds", job="gateway", route="/api/v1/token", method="GET"
                        ),
                    ),
                    says="Positions come from memory: this stays in the milliseconds whatever the crowd.",
                ),
            ),
        ),
        Row(
            "Refused early",
            (
                graph(
                    "Requests with a slot",
                    "short",
                    ("{{instance}}", level(f"{_G}_in_flight_requests", by="instance")),
                    says="Requests that hold a slot of a copy. Reads of catalog and wallet are refused at 60 % of "
                    "IN_FLIGHT_MAX, polls and joins at 75 %, holds at 90 %.",
                ),
                graph(
                    "Refused as too much",
                    "reqps",
                    ("{{priority}}", rate(f"{_G}_shed_requests_total", "priority")),
                    says="No slot, a late loop, a slow service. Reads go first, payments last; `hold`, `payment` page.",
                ),
                graph(
                    "Pressure",
                    "percentunit",
                    ("{{instance}}", level(f"{_G}_pressure_level", by="instance")),
                    says="How late the gateway's own loop is, from 0 to 1: reads go first, payments at the end.",
                    red_from=0.4,
                ),
                graph("Refused by a rate limit", "reqps", ("{{limit}}", rate(f"{_G}_limited_requests_total", "limit"))),
            ),
        ),
        Row(
            "The services behind",
            (
                graph("Breakers", "short", ("{{upstream}}", level(f"{_G}_breaker_open", by="upstream")), red_from=1),
                graph(
                    "Calls without a reply",
                    "ops",
                    ("{{upstream}} {{outcome}}", rate(f"{_G}_retries_total", "upstream outcome")),
                    says="Sent again, or given up because retries are a tenth of all calls already (`no_budget`).",
                ),
            ),
        ),
        requests("gateway"),
        parts("gateway"),
        processes("gateway"),
    ),
)
