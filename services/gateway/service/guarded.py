"""Calls to one service, with its breaker and a budget for sending again.

Sent again is what got no reply, at most twice, after a pause of chance, and only while such calls are a tenth of all:
retries of everybody at once would keep a service down that is coming back. A reply of any status is an answer and is
passed on. The deadline is that of the whole call, so that a caller waits no longer for having been retried.
"""

from collections.abc import Callable, Mapping

from libs.common.clock import Clock
from libs.common.errors import DependencyDown
from libs.common.web.upstream import Reply, ReplyLost, Upstream
from services.gateway.metrics import GatewayMetrics
from services.gateway.service.breaker import Breaker, BreakerOpen

Chance = Callable[[], float]
"""A number from 0 to 1, each as likely as any other."""

RETRIES_MAX = 2
BACKOFF_S = 0.05
BUDGET_SHARE = 0.1
"""What each call adds to the budget; a retry takes 1."""
BUDGET_MAX = 20.0
"""Retries a service may be sent in a row: enough for the connections that one restart cuts."""

REFUSED_LATE_S = 1.0
"""A service that defends itself refuses at once. One that takes this long to refuse has waited for something that does
not answer, and every further call would wait as long."""

HTTP_SERVER_ERROR = 500
HTTP_UNAVAILABLE = 503


class GuardedUpstream:
    """One service, as the gateway's parts call it."""

    def __init__(self, upstream: Upstream, clock: Clock, chance: Chance, metrics: GatewayMetrics) -> None:
        self._upstream = upstream
        self._clock = clock
        self._chance = chance
        self._breaker = Breaker(upstream.name, clock, metrics.breaker_open[upstream.name])
        self._budget = BUDGET_MAX
        self._sent_again = metrics.retries[upstream.name, "sent"]
        self._no_budget = metrics.retries[upstream.name, "no_budget"]

    async def call(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout_s: float,
        repeatable: bool = True,
    ) -> Reply:
        """Send a request; `repeatable` when carrying it out twice is the same as once.

        Raises DependencyDown when nothing was carried out, ReplyLost when that is unknown.
        """
        ends_s = self._clock.monotonic_s() + timeout_s
        self._budget = min(BUDGET_MAX, self._budget + BUDGET_SHARE)
        retries = 0
        while True:
            try:
                left_s = ends_s - self._clock.monotonic_s()
                return await self._call_once(method, path, headers, body, left_s)
            except BreakerOpen:
                raise
            except DependencyDown as down:
                pause_s = BACKOFF_S * 2**retries * self._chance()
                if retries == RETRIES_MAX or (isinstance(down, ReplyLost) and not repeatable):
                    raise
                if self._clock.monotonic_s() + pause_s >= ends_s or not self._may_send_again():
                    raise
                retries += 1
            await self._clock.sleep(pause_s)

    async def _call_once(
        self, method: str, path: str, headers: Mapping[str, str] | None, body: bytes, timeout_s: float
    ) -> Reply:
        turn = self._breaker.enter()
        began_s = self._clock.monotonic_s()
        succeeded: bool | None = None
        try:
            reply = await self._upstream.call(method, path, headers=headers, body=body, timeout_s=timeout_s)
            succeeded = not _is_failure(reply, self._clock.monotonic_s() - began_s)
        except DependencyDown:
            succeeded = False
            raise
        finally:
            self._breaker.leave(turn, succeeded)
        return reply

    def _may_send_again(self) -> bool:
        if self._budget < 1:
            self._no_budget.inc()
            return False
        self._budget -= 1
        self._sent_again.inc()
        return True


def _is_failure(reply: Reply, took_s: float) -> bool:
    """A 5xx is one, except a 503 that says at once when to come back: that service is alive and defends itself."""
    if reply.status < HTTP_SERVER_ERROR:
        return False
    defends_itself = reply.status == HTTP_UNAVAILABLE and "retry-after" in reply.headers and took_s < REFUSED_LATE_S
    return not defends_itself
