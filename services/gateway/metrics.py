"""What the gateway counts: who is let in, what is refused early, and how the services behind it do.

A rise of `shed` is too much of everything, of `breaker_open` a service that fails, of `session_lookups` events that do
not arrive. `line_age_seconds` grows when the queue's leader is silent: positions stand still.
"""

from collections.abc import Callable

from prometheus_client import Counter, Gauge

from libs.common.contract.operation import Priority
from libs.common.metrics import CommonMetrics

ADMISSIONS = ("inside", "static", "ended", "refused_ended", "waiting", "missing", "invalid")
CLAIMS = ("none", "open", "returning", "ended")
LIMITS = ("client", "join")
UPSTREAMS = ("queue", "catalog", "reservation", "wallet")


class GatewayMetrics(CommonMetrics):
    """The common series and the gateway's own."""

    def __init__(self) -> None:
        super().__init__("gateway")
        registry = self.registry
        admissions = Counter(
            "stagedoor_gateway_admissions_total", "Tickets checked, by outcome", ["outcome"], registry=registry
        )
        self.admissions = {outcome: admissions.labels(outcome) for outcome in ADMISSIONS}
        claims = Counter(
            "stagedoor_gateway_claims_total", "Claims made at the queue, by its answer", ["state"], registry=registry
        )
        self.claims = {state: claims.labels(state) for state in CLAIMS}
        self.session_lookups = Counter(
            "stagedoor_gateway_session_lookups_total",
            "Tickets asked for at the queue: unknown to the table, or past their end by this clock alone",
            registry=registry,
        )
        self._sessions = Gauge(
            "stagedoor_gateway_known_sessions", "Visits in the table, ended ones too", registry=registry
        )
        self._line_age = Gauge(
            "stagedoor_gateway_line_age_seconds", "Time since the quietest line was last heard of", registry=registry
        )
        self.in_flight = Gauge("stagedoor_gateway_in_flight_requests", "Requests that hold a slot", registry=registry)
        shed = Counter(
            "stagedoor_gateway_shed_requests_total",
            "Requests refused because too much is asked at once",
            ["priority"],
            registry=registry,
        )
        self.shed = {priority: shed.labels(priority.name.lower()) for priority in Priority}
        self.pressure = Gauge(
            "stagedoor_gateway_pressure_level",
            "How much more is asked of this process than it can answer, from 0 to 1",
            registry=registry,
        )
        limited = Counter(
            "stagedoor_gateway_limited_requests_total", "Requests refused by a rate limit", ["limit"], registry=registry
        )
        self.limited = {limit: limited.labels(limit) for limit in LIMITS}
        breaker_open = Gauge(
            "stagedoor_gateway_breaker_open", "1 while calls to a service are refused", ["upstream"], registry=registry
        )
        self.breaker_open = {name: breaker_open.labels(name) for name in UPSTREAMS}
        retries = Counter(
            "stagedoor_gateway_retries_total",
            "Calls that got no reply, sent again or given up for want of budget",
            ["upstream", "outcome"],
            registry=registry,
        )
        self.retries = {
            (name, outcome): retries.labels(name, outcome) for name in UPSTREAMS for outcome in ("sent", "no_budget")
        }

    def watch_tables(self, line_age_s: Callable[[], float], session_count: Callable[[], int]) -> None:
        """Read these figures whenever somebody scrapes, which is cheaper than keeping them up to date."""
        self._line_age.set_function(line_age_s)
        self._sessions.set_function(session_count)
