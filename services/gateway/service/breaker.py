"""A breaker: a service that fails most of its calls is left alone for a while, and the callers are told at once.

closed ──(half of 20 or more calls in 10 s failed)──▶ open ──(2 s)──▶ probing ──(3 probes succeeded)──▶ closed
                                                        ▲───────────────(one failed)──────────────┘
"""

from collections import deque
from dataclasses import dataclass
from typing import Literal

from prometheus_client import Gauge

from libs.common.clock import Clock
from libs.common.errors import DependencyDown

WINDOW_S = 10
CALLS_MIN = 20
FAILED_SHARE = 0.5
OPEN_S = 2.0
"""Short, because a service that is back waits for it: everyone should be served again within 5 s."""

PROBES = 3

UNASKED_S = 30.0
"""A breaker that could have probed for so long was not asked: it refuses nobody, and is not shown as open any more.
Longer than a call may take (REQUEST_DEADLINE_S, usually 10 s), so that one whose probe is slow is shown."""


class BreakerOpen(DependencyDown):
    """The call was not made: the service has been failing."""


@dataclass(slots=True)
class _Second:
    """Calls that ended within one second."""

    at_s: int
    ended: int = 0
    failed: int = 0


class Breaker:
    """The breaker of one service. Every `enter` that returns is followed by one `leave`."""

    def __init__(self, name: str, clock: Clock, is_open: Gauge) -> None:
        self._name = name
        self._clock = clock
        self._state: Literal["closed", "open", "probing"] = "closed"
        self._turn = 0
        """Grows with every change of state: a call that began in another state says nothing about this one."""
        self._window: deque[_Second] = deque(maxlen=WINDOW_S)
        self._reopens_s = 0.0
        self._probes_begun = 0
        self._probes_done = 0
        is_open.set_function(self._refuses)

    def enter(self) -> int:
        """Ask to make a call; the number to give to `leave`. Raises BreakerOpen."""
        if self._state == "open" and self._clock.monotonic_s() >= self._reopens_s:
            self._become("probing")
        if self._state == "open" or (self._state == "probing" and self._probes_begun >= PROBES):
            wait_s = max(1, round(self._reopens_s - self._clock.monotonic_s()))
            raise BreakerOpen(f"The {self._name} service is failing; try again later.", retry_after_s=wait_s)
        self._probes_begun += self._state == "probing"
        return self._turn

    def leave(self, turn: int, succeeded: bool | None) -> None:
        """The call has ended. None: its caller gave up, which says nothing about the service."""
        if turn != self._turn:
            return
        if self._state == "probing":
            self._probe_ended(succeeded)
        elif succeeded is not None:
            self._count(succeeded)

    def _probe_ended(self, succeeded: bool | None) -> None:
        if succeeded is None:
            self._probes_begun -= 1
        elif not succeeded:
            self._become("open")
        else:
            self._probes_done += 1
            if self._probes_done == PROBES:
                self._become("closed")

    def _count(self, succeeded: bool) -> None:
        now_s = int(self._clock.monotonic_s())
        if not self._window or self._window[-1].at_s != now_s:
            self._window.append(_Second(now_s))
        second = self._window[-1]
        second.ended += 1
        second.failed += not succeeded
        if succeeded:
            return
        recent = [each for each in self._window if each.at_s > now_s - WINDOW_S]
        ended, failed = sum(each.ended for each in recent), sum(each.failed for each in recent)
        if ended >= CALLS_MIN and failed >= ended * FAILED_SHARE:
            self._become("open")

    def _become(self, state: Literal["closed", "open", "probing"]) -> None:
        self._state = state
        self._turn += 1
        self._window.clear()
        self._probes_begun = self._probes_done = 0
        if state == "open":
            self._reopens_s = self._clock.monotonic_s() + OPEN_S

    def _refuses(self) -> bool:
        return self._state != "closed" and self._clock.monotonic_s() < self._reopens_s + UNASKED_S
