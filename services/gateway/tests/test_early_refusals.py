"""What is refused before it is read, in which order, and how soon that is over."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.contract.operation import Priority
from libs.common.errors import DependencyDown, Overloaded
from libs.common.testing.virtual import LoopClock, run_virtual
from services.gateway.app import TURNSTILE
from services.gateway.metrics import GatewayMetrics
from services.gateway.service.gates import LOOK_COUNT_MIN, LOOK_S, MEANT_S, OPEN_MIN, Gate, Gates
from services.gateway.service.limits import Slots
from services.gateway.service.pressure import (
    FALL_PER_S,
    MEANT_LAG_S,
    POLLS_FROM_TO,
    REFUSED_FROM_TO,
    REFUSED_MAX,
    REQUESTS_MIN,
    RISE_MAX_S,
    Pressure,
    Thinning,
)
from services.gateway.service.route_table import PUBLIC_OPERATIONS
from services.gateway.service.turnstile import Turnstile
from services.gateway.tests.scene import Scene, play

OPEN_MAX = 1_000
ORDER = [REFUSED_FROM_TO[kind] for kind in (Priority.READ, Priority.POLL, Priority.HOLD)]
ORDER += [POLLS_FROM_TO, REFUSED_FROM_TO[Priority.PAYMENT]]
SEATS = b"GET /api/v1/concert/7/available-seats HTTP/1.1\r\nHost: x\r\n"
POLL = b"GET /api/v1/token HTTP/1.1\r\nHost: x\r\n"


def in_time(part: Callable[[LoopClock], Coroutine[Any, Any, None]]) -> None:
    run_virtual(part(LoopClock()))


def a_gate(clock: LoopClock, priority: Priority = Priority.READ) -> Gate:
    return Gates(OPEN_MAX, clock, GatewayMetrics().shed).of("catalog", priority)


async def answer_in(clock: LoopClock, gate: Gate, seconds: float, at_once: int) -> None:
    """So many calls at once, each answered after so many seconds."""

    async def call() -> None:
        await gate.let_through(lambda: clock.sleep(seconds))

    await asyncio.gather(*(call() for _ in range(at_once)))


# Gates


def test_a_gate_closes_to_what_would_have_come_in_time() -> None:
    async def part(clock: LoopClock) -> None:
        gate = a_gate(clock)
        await answer_in(clock, gate, 5 * MEANT_S[Priority.READ], 500)
        assert OPEN_MIN <= gate.open <= 500 / 5

    in_time(part)


def test_a_gate_stays_open_to_a_crowd_that_is_answered_in_time() -> None:
    async def part(clock: LoopClock) -> None:
        gate = a_gate(clock)
        await answer_in(clock, gate, MEANT_S[Priority.READ] / 2, OPEN_MAX)
        assert gate.open == OPEN_MAX
        with pytest.raises(Overloaded):
            await answer_in(clock, gate, 0.01, OPEN_MAX + 1)

    in_time(part)


def test_a_gate_opens_again_step_by_step_and_never_closes_altogether() -> None:
    async def part(clock: LoopClock) -> None:
        gate = a_gate(clock)
        for _ in range(20):
            await answer_in(clock, gate, 10 * MEANT_S[Priority.READ], OPEN_MIN)
        assert gate.open == OPEN_MIN
        looks = 0
        while gate.open < OPEN_MAX:
            await clock.sleep(LOOK_S)
            await answer_in(clock, gate, 0.001, LOOK_COUNT_MIN)
            looks += 1
        assert 3 <= looks <= 20

    in_time(part)


def test_calls_without_an_answer_do_not_close_a_gate() -> None:
    async def part(clock: LoopClock) -> None:
        gate = a_gate(clock)

        async def fails() -> None:
            await clock.sleep(2)
            raise DependencyDown("no")

        for _ in range(3 * LOOK_COUNT_MIN):
            with pytest.raises(DependencyDown):
                await gate.let_through(fails)
        assert (gate.open, gate.in_flight) == (OPEN_MAX, 0)

    in_time(part)


def test_payments_are_given_the_time_they_take() -> None:
    async def part(clock: LoopClock) -> None:
        gate = a_gate(clock, Priority.PAYMENT)
        await answer_in(clock, gate, 5.0, 500)
        assert gate.open == OPEN_MAX

    in_time(part)


# Pressure


def test_pressure_rises_while_rounds_are_long_and_is_gone_after_a_quiet_time_without_any_request() -> None:
    async def part(clock: LoopClock) -> None:
        pressure = Pressure(clock)
        for _ in range(50):
            await clock.sleep(RISE_MAX_S)
            pressure.feel(4 * MEANT_LAG_S, REQUESTS_MIN)
        assert pressure.level == 1
        await clock.sleep(1 / FALL_PER_S)
        pressure.notice()
        assert pressure.level == 0

    in_time(part)


@pytest.mark.parametrize(("lag_s", "requests"), [(MEANT_LAG_S / 2, 10_000), (1.0, REQUESTS_MIN - 1)])
def test_short_rounds_and_rounds_that_others_made_long_are_no_pressure(lag_s: float, requests: int) -> None:
    async def part(clock: LoopClock) -> None:
        pressure = Pressure(clock)
        for _ in range(50):
            await clock.sleep(RISE_MAX_S)
            pressure.feel(lag_s, requests)
        assert pressure.level == 0

    in_time(part)


def test_one_stall_does_not_decide_it_all() -> None:
    async def part(clock: LoopClock) -> None:
        pressure = Pressure(clock)
        await clock.sleep(3600)
        pressure.feel(10.0, 10_000)
        assert pressure.level <= 0.25

    in_time(part)


@given(st.floats(0, 1))
def test_reads_are_refused_first_then_joins_holds_and_polls_and_payments_last(level: float) -> None:
    pressure = Pressure(LoopClock())
    pressure.level = level
    shares = [Thinning(pressure, from_to).share for from_to in ORDER]
    assert shares == sorted(shares, reverse=True)
    assert max(shares) <= REFUSED_MAX


def test_a_share_is_refused_evenly_and_some_are_always_let_in() -> None:
    pressure = Pressure(LoopClock())
    pressure.level = 1.0
    thinning = Thinning(pressure, (0.0, 1.0))
    refused = [thinning.refuses() for _ in range(1000)]
    assert sum(refused) == pytest.approx(REFUSED_MAX * 1000, abs=1)
    assert all(not all(refused[begin : begin + 21]) for begin in range(979))


# The turnstile


class Entrance:
    def __init__(self, in_flight_max: int = OPEN_MAX) -> None:
        clock, self.metrics = LoopClock(), GatewayMetrics()
        self.slots = Slots(in_flight_max, self.metrics)
        self.gates = Gates(in_flight_max, clock, self.metrics.shed)
        self.pressure = Pressure(clock)
        self.turnstile = Turnstile(PUBLIC_OPERATIONS, self.slots, self.gates, self.pressure, self.metrics)

    async def refusal(self, head: bytes) -> bytes | None:
        return self.turnstile.refusal(head + b"\r\n")


def test_without_pressure_everything_goes_on() -> None:
    async def part(_: LoopClock) -> None:
        assert [await Entrance().refusal(head) for head in (SEATS, POLL)] == [None, None]

    in_time(part)


def test_a_refusal_is_a_whole_problem_of_the_one_shape() -> None:
    async def part(_: LoopClock) -> None:
        entrance = Entrance()
        entrance.gates.of("catalog", Priority.READ).open = 0
        traced = SEATS + b"Traceparent: 00-" + b"ab" * 16 + b"-" + b"cd" * 8 + b"-01\r\n"
        told = await entrance.refusal(traced)
        assert told is not None
        head, body = told.split(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert lines[0] == b"HTTP/1.1 503 Service Unavailable"
        assert {b"Retry-After: 1", b"Content-Type: application/problem+json"} < set(lines)
        assert f"Content-Length: {len(body)}".encode() in lines
        problem = orjson.loads(body)
        assert (problem["code"], problem["traceId"]) == ("OVERLOADED", "ab" * 16)
        assert problem["instance"] == "/api/v1/concert/7/available-seats"
        assert entrance.metrics.registry.get_sample_value("stagedoor_gateway_shed_requests_total", {"priority": "read"})

    in_time(part)


def test_a_closed_gate_leaves_the_routes_of_other_services_open() -> None:
    async def part(_: LoopClock) -> None:
        entrance = Entrance()
        entrance.gates.of("catalog", Priority.READ).open = 0
        assert await entrance.refusal(SEATS) is not None
        assert await entrance.refusal(POLL) is None
        assert await entrance.refusal(b"GET /api/v1/users/7/wallet HTTP/1.1\r\n") is None

    in_time(part)


@pytest.mark.parametrize(
    "line",
    [
        b"GET /healthz HTTP/1.1\r\n",
        b"GET /readyz HTTP/1.1\r\n",
        b"GET /api/v1/concert/%37/available-seats HTTP/1.1\r\n",
        b"GET /api/v1/concert/7/available-seats HTTP/1.0\r\n",
        b"DELETE /api/v1/concert/7/available-seats HTTP/1.1\r\n",
        b'GET /api/v1/concert/7"/available-seats HTTP/1.1\r\n',
    ],
)
def test_health_and_whatever_is_not_plainly_a_route_of_ours_is_never_refused_here(line: bytes) -> None:
    async def part(_: LoopClock) -> None:
        entrance = Entrance()
        for operation in PUBLIC_OPERATIONS:
            entrance.gates.of(operation.room, operation.priority).open = 0
        entrance.pressure.level = 1.0
        assert [await entrance.refusal(line) for _ in range(100)] == [None] * 100

    in_time(part)


def test_the_turnstile_and_the_handlers_share_their_gates() -> None:
    async def part(scene: Scene) -> None:
        turnstile = scene.client.app[TURNSTILE]
        scene.catalog.usual = DependencyDown("no")
        assert turnstile.refusal(SEATS + b"\r\n") is None

        async def slow() -> Any:
            await scene.clock.sleep(1)
            raise DependencyDown("late")

        scene.catalog.usual = slow
        calls = [asyncio.create_task(scene.call("GET", "/concert")) for _ in range(60)]
        await scene.clock.sleep(0.1)
        refused = turnstile.refusal(SEATS + b"\r\n")
        assert refused is not None
        assert refused.startswith(b"HTTP/1.1 503 ")
        await asyncio.gather(*calls)
        assert turnstile.refusal(SEATS + b"\r\n") is None

    play(part, in_flight_max=100)
