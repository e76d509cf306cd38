"""Any order of calls leaves what the model says: in one loop on virtual time, and over real processes."""

import asyncio
import time
from collections.abc import Coroutine, Iterator
from typing import Any

import aiohttp
import pytest
from hypothesis import Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from libs.common.testing.virtual import VirtualLoop
from tests.buyer import Buyer, Caller
from tests.e2e.conftest import HttpCaller
from tests.e2e.system import RunningSystem
from tests.fuzz.effort import BUDGET_S, QUIET, SEED, SEEDS_PER_RUN
from tests.fuzz.model import HOLD_S, SEATS, Machine, MachineInTime
from tests.system.one_loop import OneLoop

STEPS = 50
SHARE_IN_LOOP, SHARE_OVER_HTTP = 0.3, 0.12
ROUNDS_OVER_HTTP = 20
SCHEDULES = iter(range(3, 119))
"""Each run takes one that nobody has touched: what fits the document may hold a seat of any."""

FIRST_USER = 400_000
DEMO_SEATS = 50


class OneLoopWorld:
    """A product of its own in one loop, where hours pass in seconds."""

    schedule = 1
    first_user = FIRST_USER

    def __init__(self) -> None:
        self._runner = asyncio.Runner(loop_factory=VirtualLoop)
        self._runner.__enter__()
        self._system = OneLoop(hold_s=HOLD_S)
        self.caller: Caller = self._system
        self._live = self._system.live()
        self.run(self._live.__aenter__())
        self.run(self._system.publish_concert(1, schedules=1, seats=SEATS + 1))

    def run(self, call: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(call)

    def now_s(self) -> float:
        return self._runner.get_loop().time()

    def pass_time(self, seconds: float) -> None:
        self.run(self._system.clock.sleep(seconds))

    def close(self) -> None:
        self.run(self._live.__aexit__(None, None, None))
        self._runner.__exit__(None, None, None)


class HttpWorld:
    """Users and a schedule of their own in a system of real processes."""

    def __init__(self, loop: asyncio.Runner, caller: Caller) -> None:
        self._loop = loop
        self.caller = caller
        looker = Buyer(caller)
        self.schedule = next(number for number in SCHEDULES if len(self.run(looker.seats(number))) == DEMO_SEATS)
        self.first_user = FIRST_USER + 10 * self.schedule

    def run(self, call: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run(call)

    def now_s(self) -> float:
        return time.monotonic()

    def close(self) -> None:
        """Nothing to close: the system is everybody's."""


def explore(machine: type[Machine], how: settings, *, share: float, rounds_max: int = 10**9) -> None:
    """Runs of STEPS calls each, round by round, until a share of the budget is spent."""
    ends_s = time.monotonic() + share * BUDGET_S
    for number in range(rounds_max):
        seeded: Any = seed(SEED * SEEDS_PER_RUN + number)(machine)
        try:
            run_state_machine_as_test(seeded, settings=settings(how, stateful_step_count=STEPS))
        except BaseException as wrong:
            wrong.add_note(f"round {number} of the model: see it again with FUZZ_SEED={SEED}")
            raise
        if time.monotonic() >= ends_s:
            return


def test_any_order_of_calls_in_one_loop() -> None:
    class InOneLoop(MachineInTime):
        def __init__(self) -> None:
            super().__init__()
            self.world = OneLoopWorld()

    explore(InOneLoop, settings(QUIET, max_examples=2), share=SHARE_IN_LOOP)


@pytest.fixture
def caller(system: RunningSystem, loop: asyncio.Runner) -> Iterator[HttpCaller]:
    async def opened() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15))

    session = loop.run(opened())
    yield HttpCaller(session, system.url)
    loop.run(session.close())


@pytest.mark.e2e
def test_any_order_of_calls_over_real_processes(loop: asyncio.Runner, caller: HttpCaller) -> None:
    class OverHttp(Machine):
        def __init__(self) -> None:
            super().__init__()
            self.world = HttpWorld(loop, caller)

    # A failure is shown as it was found: making it smaller would take a schedule a try.
    once = settings(QUIET, max_examples=2, phases=(Phase.generate,))
    explore(OverHttp, once, share=SHARE_OVER_HTTP, rounds_max=ROUNDS_OVER_HTTP)
