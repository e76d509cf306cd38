"""Virtual time: an event loop whose clock jumps to the next timer instead of waiting for it.

A whole system on memory adapters runs hours in seconds, always in the same order. Nothing in it may wait for a thread
or a socket: with no timer left and nothing ready, the loop has come to a standstill and says so.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

TURNS_MAX = 1_000_000
"""Turns of the loop without any time passing, after which nobody believes any more that it ever will."""

START_MS = 1_800_000_000_000
"""Where simulated wall time begins (2027-01-15); any fixed number does."""


class Standstill(Exception):
    """Everyone waits and nothing can happen any more: a lost wake-up, or a wait on something outside the loop. Or tasks
    wake each other for ever, and no time passes."""


class _JumpingSelector(selectors.SelectSelector):
    """Passes time instead of waiting for it. The loop's own wake-up socket is never written to without threads."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Standstill("no timer is set and nothing is ready")
        if timeout > 0:
            self.now_s += timeout
            self._turns = 0
        else:
            self._turns += 1
            if self._turns > TURNS_MAX:
                self._turns = 0
                raise Standstill(f"{TURNS_MAX} turns of the loop and no time has passed")
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time; `loop.time()` starts at 0."""

    def __init__(self) -> None:
        self._virtual = _JumpingSelector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now_s


class LoopClock:
    """A `Clock` that reads the running loop's time; `skew_ms` sets one process's wall clock apart from the others'."""

    def __init__(self, start_ms: int = START_MS, skew_ms: int = 0) -> None:
        self._start_ms = start_ms + skew_ms
        self._loop: asyncio.AbstractEventLoop | None = None

    def now_ms(self) -> int:
        return self._start_ms + round(self.monotonic_s() * 1000)

    def monotonic_s(self) -> float:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()  # asked once: it asks the kernel for the process, every time
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
