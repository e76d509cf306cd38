"""How much too much is asked of this process, from 0 to 1, and which share of each class is refused for it.

The gates look at the services; this looks at the gateway's own event loop. From a request to the loop's next round is a
moment; when rounds take longer than `MEANT_LAG_S`, and many requests come in each, then requests wait in sockets where
nobody counts them, and whatever is refused is refused too late. Pressure rises with lag and falls by itself: a crowd
that comes at once is over before much of it is refused, one that stays is thinned out within a second.

Each class has a part of the way from 0 to 1 on which the share of it that is refused grows from none to all but a rest:
reads first, then joins, then holds, then polls, payments at the very end. The rest is let in whatever happens, because
who sees no seats buys none. Polls come late in this order: an answer from memory costs little more than a refusal, and
sends its person away for longer. Who is refused is not drawn by lot: a share of 0.75 refuses three of any four.
"""

import asyncio

from libs.common.clock import Clock
from libs.common.contract.operation import Priority

MEANT_LAG_S = 0.015
LOOK_S = 0.005
REQUESTS_MIN = 50
"""Requests in a round; with fewer, somebody else on the machine takes the time, and to refuse them would not help."""

RISE_PER_S, FALL_PER_S = 1.0, 0.5
RISE_MAX_S = 0.2
"""One look counts for no longer, so that a single stall does not decide it all."""

REFUSED_MAX = 0.95
REFUSED_FROM_TO = {
    Priority.READ: (0.0, 0.4),
    Priority.POLL: (0.1, 0.5),
    Priority.HOLD: (0.2, 0.6),
    Priority.PAYMENT: (0.8, 1.0),
}
POLLS_FROM_TO = (0.5, 0.9)


class Pressure:
    """The pressure on this process, felt by the requests themselves: without requests it costs nothing."""

    def __init__(self, clock: Clock) -> None:
        self.level = 0.0
        self._clock = clock
        self._is_looking = False
        self._requests = 0
        self._looked_s = 0.0

    def notice(self) -> None:
        """A request has come."""
        self._requests += 1
        if not self._is_looking:
            self.settled_level()
            self._is_looking = True
            self._look_again()

    def settled_level(self) -> float:
        """The level now; it has been falling while nobody came."""
        if not self._is_looking:
            self.feel(0.0, 0)
        return self.level

    def feel(self, lag_s: float, requests: int) -> None:
        """The loop was late by so much, and so many requests came meanwhile."""
        now_s = self._clock.monotonic_s()
        since_s, self._looked_s = now_s - self._looked_s, now_s
        excess = min(1.0, lag_s / MEANT_LAG_S - 1)
        if excess > 0 and requests >= REQUESTS_MIN:
            self.level = min(1.0, self.level + excess * RISE_PER_S * min(since_s, RISE_MAX_S))
        else:
            self.level = max(0.0, self.level - FALL_PER_S * since_s)

    def _look_again(self) -> None:
        asyncio.get_running_loop().call_later(LOOK_S, self._look, self._clock.monotonic_s())

    def _look(self, began_s: float) -> None:
        requests, self._requests = self._requests, 0
        self.feel(self._clock.monotonic_s() - began_s - LOOK_S, requests)
        # From timer to timer, as the loop does its work between them; and no longer than requests come.
        self._is_looking = requests > 0
        if self._is_looking:
            self._look_again()


class Thinning:
    """What pressure means for one kind of request."""

    def __init__(self, pressure: Pressure, from_to: tuple[float, float]) -> None:
        self._pressure = pressure
        self._from_to = from_to
        self._owed = 0.0

    @property
    def share(self) -> float:
        """The share that is refused now."""
        begins, ends = self._from_to
        return REFUSED_MAX * min(1.0, max(0.0, (self._pressure.level - begins) / (ends - begins)))

    def refuses(self) -> bool:
        """True when this request is one of those that are refused."""
        if not self._pressure.level:
            return False
        self._owed += self.share
        if self._owed < 1:
            return False
        self._owed -= 1
        return True
