"""Too much of everything: what is refused first, and what is left alone."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.contract.operation import Priority
from libs.common.errors import DependencyDown, Overloaded, RateLimited
from libs.common.testing.virtual import LoopClock, run_virtual
from libs.common.web.upstream import Reply
from services.gateway.metrics import GatewayMetrics
from services.gateway.service.breaker import CALLS_MIN, OPEN_S, PROBES, UNASKED_S, WINDOW_S, Breaker, BreakerOpen
from services.gateway.service.limits import BUCKETS_MAX, RateLimit, Slots
from services.gateway.tests.scene import CODEC, Scene, lost, play, problem, reply

WALLET = ("GET", "/users/7/wallet")


def in_time(part: Callable[[LoopClock], Coroutine[Any, Any, None]]) -> None:
    run_virtual(part(LoopClock()))


# Slots


@given(st.integers(10, 200))
def test_as_slots_fill_reads_are_refused_first_then_polls_then_holds_then_payments(in_flight_max: int) -> None:
    slots = Slots(in_flight_max, GatewayMetrics())
    refused_at: dict[Priority, int] = {}
    while slots.in_flight < in_flight_max:
        for priority in Priority:
            try:
                with slots.of(priority):
                    pass
            except Overloaded:
                refused_at.setdefault(priority, slots.in_flight)
        slots.of(Priority.PAYMENT).__enter__()
    assert list(refused_at) == [Priority.READ, Priority.POLL, Priority.HOLD]
    assert list(refused_at.values()) == sorted(refused_at.values())
    with pytest.raises(Overloaded), slots.of(Priority.PAYMENT):
        pass


def test_a_slot_is_given_back_whatever_happens() -> None:
    slots = Slots(10, GatewayMetrics())
    for _ in range(50):
        with pytest.raises(DependencyDown), slots.of(Priority.HOLD):
            raise DependencyDown("no")
    assert slots.in_flight == 0


def test_when_slow_reads_take_their_share_payments_still_go_through() -> None:
    async def part(scene: Scene) -> None:
        async def slow() -> Reply:
            await asyncio.sleep(1)
            return reply()

        scene.wallet.usual = slow
        reads = [asyncio.create_task(scene.call(*WALLET)) for _ in range(30)]
        await scene.clock.sleep(0.1)
        began_s = scene.clock.monotonic_s()
        shed = await scene.call("GET", "/concert")
        assert (shed.status, shed.code, shed.headers["retry-after"]) == (503, "OVERLOADED", "1")
        assert scene.clock.monotonic_s() == began_s
        assert (await scene.poll(CODEC.sign(1, 9)))["position"] == 9
        assert (await scene.call("POST", "/payment", "test-token", {})).status == 200
        statuses = sorted([(await read).status for read in reads])
        assert statuses == [200] * 12 + [503] * 18
        assert scene.sample("shed_requests_total", priority="read") == 19
        assert scene.sample("in_flight_requests") == 0

    play(part, in_flight_max=20)


# Rate limits


def test_a_client_may_send_a_burst_and_then_its_rate() -> None:
    async def part(clock: LoopClock) -> None:
        limit = RateLimit(2.0, 5, clock, GatewayMetrics().limited["client"])
        for _ in range(5):
            limit.take("a")
        with pytest.raises(RateLimited) as refused:
            limit.take("a")
        assert refused.value.retry_after_s == 1
        limit.take("b")
        await clock.sleep(1)
        limit.take("a")
        limit.take("a")
        with pytest.raises(RateLimited):
            limit.take("a")
        await clock.sleep(3600)
        for _ in range(5):
            limit.take("a")
        with pytest.raises(RateLimited):
            limit.take("a")

    in_time(part)


def test_the_clients_a_limit_remembers_are_bounded() -> None:
    async def part(clock: LoopClock) -> None:
        limit = RateLimit(0.001, 1, clock, GatewayMetrics().limited["client"])
        for number in range(BUCKETS_MAX + 1):
            limit.take(str(number))
        limit.take("0")
        with pytest.raises(RateLimited):
            limit.take(str(BUCKETS_MAX))

    in_time(part)


def test_by_default_nobody_is_limited() -> None:
    async def part(scene: Scene) -> None:
        answers = await asyncio.gather(*(scene.call("GET", "/token", CODEC.sign(1, 9)) for _ in range(500)))
        assert {answer.status for answer in answers} == {200}

    play(part)


def test_a_ticket_has_a_rate_of_its_own_and_tokens_that_do_not_verify_share_their_address() -> None:
    async def part(scene: Scene) -> None:
        async def codes(token: str | None, count: int) -> list[int]:
            return [(await scene.call("GET", "/token", token)).status for _ in range(count)]

        assert await codes(CODEC.sign(1, 9), 4) == [200, 200, 200, 429]
        assert await codes(CODEC.sign(1, 10), 1) == [200]
        assert [await codes(f"made-up-{number}", 1) for number in range(4)] == [[401], [401], [401], [429]]
        assert (await scene.call(*WALLET)).code == "RATE_LIMITED"

    play(part, rate_per_client_per_s=0.5, rate_burst=3)


def test_joins_have_a_limit_by_address() -> None:
    async def part(scene: Scene) -> None:
        joins = [await scene.call("POST", "/token/create") for _ in range(3)]
        assert [join.status for join in joins] == [201, 201, 429]
        assert scene.queue.issued == 2

    play(part, joins_per_address_per_s=0.1, joins_burst=2)


# Breakers


class Circuit:
    """A breaker and what its calls come to."""

    def __init__(self, clock: LoopClock) -> None:
        self._metrics = GatewayMetrics()
        self.breaker = Breaker("wallet", clock, self._metrics.breaker_open["wallet"])

    def call(self, succeeded: bool | None, times: int = 1) -> None:
        for _ in range(times):
            self.breaker.leave(self.breaker.enter(), succeeded)

    @property
    def is_open(self) -> bool:
        try:
            self.call(None)
        except BreakerOpen:
            return True
        return False

    @property
    def shown(self) -> float | None:
        return self._metrics.registry.get_sample_value("stagedoor_gateway_breaker_open", {"upstream": "wallet"})


def test_an_open_breaker_is_shown_while_calls_come_and_fail_and_not_all_night_when_none_comes() -> None:
    async def part(clock: LoopClock) -> None:
        circuit = Circuit(clock)
        assert circuit.shown == 0
        circuit.call(False, CALLS_MIN)
        assert circuit.shown == 1
        for _ in range(3):
            await clock.sleep(UNASKED_S)
            assert circuit.shown == 1
            circuit.call(False)
        await clock.sleep(OPEN_S + UNASKED_S)
        assert circuit.shown == 0
        circuit.call(False)
        assert circuit.shown == 1

    in_time(part)


def test_a_breaker_opens_when_half_of_enough_calls_failed() -> None:
    async def part(clock: LoopClock) -> None:
        few, mostly_good, bad = Circuit(clock), Circuit(clock), Circuit(clock)
        few.call(False, CALLS_MIN - 1)
        assert not few.is_open
        mostly_good.call(True, 11)
        mostly_good.call(False, 10)
        assert not mostly_good.is_open
        bad.call(True, 10)
        bad.call(False, 10)
        assert bad.is_open

    in_time(part)


def test_failures_are_forgotten_after_the_window() -> None:
    async def part(clock: LoopClock) -> None:
        circuit = Circuit(clock)
        circuit.call(False, CALLS_MIN - 1)
        await clock.sleep(WINDOW_S)
        circuit.call(False)
        assert not circuit.is_open

    in_time(part)


def test_an_open_breaker_lets_three_probes_through_and_closes_when_all_succeed() -> None:
    async def part(clock: LoopClock) -> None:
        circuit = Circuit(clock)
        circuit.call(False, CALLS_MIN)
        await clock.sleep(OPEN_S - 0.1)
        assert circuit.is_open
        await clock.sleep(0.1)
        turns = [circuit.breaker.enter() for _ in range(PROBES)]
        with pytest.raises(BreakerOpen):
            circuit.breaker.enter()
        for turn in turns:
            circuit.breaker.leave(turn, True)
        circuit.call(True, 100)

    in_time(part)


def test_one_failed_probe_opens_it_again() -> None:
    async def part(clock: LoopClock) -> None:
        circuit = Circuit(clock)
        circuit.call(False, CALLS_MIN)
        await clock.sleep(OPEN_S)
        circuit.call(True, PROBES - 1)
        circuit.call(False)
        assert circuit.is_open
        await clock.sleep(OPEN_S)
        circuit.call(True, PROBES)
        assert not circuit.is_open

    in_time(part)


def test_a_probe_whose_caller_gave_up_makes_room_for_another() -> None:
    async def part(clock: LoopClock) -> None:
        circuit = Circuit(clock)
        circuit.call(False, CALLS_MIN)
        await clock.sleep(OPEN_S)
        circuit.call(None, 10)
        circuit.call(True, PROBES)
        assert not circuit.is_open

    in_time(part)


def test_calls_that_began_before_it_opened_do_not_count_as_probes() -> None:
    async def part(clock: LoopClock) -> None:
        circuit = Circuit(clock)
        early = [circuit.breaker.enter() for _ in range(10)]
        circuit.call(False, CALLS_MIN)
        await clock.sleep(OPEN_S)
        circuit.call(None)
        for turn in early:
            circuit.breaker.leave(turn, True)
        circuit.call(True, PROBES - 1)
        circuit.call(False)
        assert circuit.is_open

    in_time(part)


def test_a_service_that_fails_is_left_alone_and_the_others_go_on() -> None:
    async def part(scene: Scene) -> None:
        scene.wallet.usual = lost()
        for _ in range(CALLS_MIN):
            await scene.call(*WALLET)
        called = len(scene.wallet.sent)
        began_s = scene.clock.monotonic_s()
        refused = await scene.call(*WALLET)
        assert (refused.status, refused.code) == (503, "DEPENDENCY_DOWN")
        assert 1 <= int(refused.headers["retry-after"]) <= OPEN_S
        assert (scene.clock.monotonic_s(), len(scene.wallet.sent)) == (began_s, called)
        assert scene.sample("breaker_open", upstream="wallet") == 1
        assert (await scene.call("GET", "/concert")).status == 200
        scene.wallet.usual = reply()
        await scene.clock.sleep(OPEN_S)
        assert [(await scene.call(*WALLET)).status for _ in range(10)] == [200] * 10
        assert scene.sample("breaker_open", upstream="wallet") == 0

    play(part)


@pytest.mark.parametrize(
    ("told", "opens"),
    [
        (problem(500, "INTERNAL"), True),
        (reply(502), True),
        (problem(503, "DEPENDENCY_DOWN"), True),
        (problem(503, "OVERLOADED", retry_after="1"), False),
        (problem(409, "SEAT_TAKEN"), False),
        (problem(429, "RATE_LIMITED"), False),
    ],
)
def test_a_refusal_is_no_failure_and_a_service_that_defends_itself_is_alive(told: Reply, opens: bool) -> None:
    async def part(scene: Scene) -> None:
        scene.wallet.usual = told
        for _ in range(3 * CALLS_MIN):
            await scene.call(*WALLET)
        assert (len(scene.wallet.sent) < 3 * CALLS_MIN) == opens

    play(part)


def test_a_service_that_takes_long_to_refuse_waits_for_something_and_is_left_alone() -> None:
    async def part(scene: Scene) -> None:
        async def refuses_late() -> Reply:
            await scene.clock.sleep(1.5)
            return problem(503, "DEPENDENCY_DOWN", retry_after="1")

        scene.wallet.usual = refuses_late
        await asyncio.gather(*(scene.call(*WALLET) for _ in range(CALLS_MIN)))
        began_s = scene.clock.monotonic_s()
        refused = await scene.call(*WALLET)
        assert (refused.status, refused.code, scene.clock.monotonic_s()) == (503, "DEPENDENCY_DOWN", began_s)

    play(part)
