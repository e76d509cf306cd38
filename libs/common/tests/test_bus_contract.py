"""The event bus contract on the adapters that need nothing but this machine, and what only Redis Streams can do."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from libs.common.errors import DependencyDown
from libs.common.messaging.memory import MemoryBroker, MemoryBus
from libs.common.messaging.ports import Message
from libs.common.messaging.redis_streams import entries
from libs.common.messaging.redis_streams.bus import RedisStreamsBus
from libs.common.messaging.redis_streams.settings import Times
from libs.common.metrics import CommonMetrics
from libs.common.redis_client import RedisClient
from libs.common.system import SystemClock
from libs.common.testing.bus_contract import (
    GROUP,
    IDLE_S,
    BusContract,
    BusFarm,
    FarmBus,
    Notes,
    fresh_topic,
    messages,
    no_gap,
    stuck,
)
from libs.common.testing.eventually import eventually
from libs.common.testing.redis_server import RedisServer
from libs.common.testing.virtual import LoopClock, run_virtual

SHORT = Times(claim_idle_ms=round(IDLE_S * 1000), janitor_period_s=0.1, stop_grace_s=0.3)


def test_the_simulation_can_disturb_the_memory_broker_and_repeats_exactly() -> None:
    """Delays, doubles and a crash, in virtual time: nothing is lost, and two runs are the same run."""

    class Broker(MemoryBroker):
        async def on_delivery(self, instance: str, group: str | None, message: Message) -> int:
            number = int(message.id.rpartition("/")[2])
            await self.clock.sleep(number * 7 % 5)
            return 2 if number % 10 == 0 else 1

    async def play() -> list[tuple[float, str]]:
        clock, metrics = LoopClock(), CommonMetrics("test")
        broker = Broker(clock)
        seen: list[tuple[float, str]] = []

        async def handle(message: Message) -> None:
            seen.append((clock.monotonic_s(), message.id))

        dying, living = MemoryBus(broker, "dying", metrics), MemoryBus(broker, "living", metrics)
        await dying.subscribe("test.sim.v1", GROUP, handle)
        await living.subscribe("test.sim.v1", GROUP, handle)
        await living.publish(messages("test.sim.v1", 500))
        await clock.sleep(1.5)
        await dying.abandon()
        await clock.sleep(120)
        assert broker.lag("test.sim.v1", GROUP) == 0
        await living.stop()
        return seen

    first, second = run_virtual(play()), run_virtual(play())
    assert {id_ for _, id_ in first} == {message.id for message in messages("test.sim.v1", 500)}
    assert first == second


class TestMemory(BusContract):
    @pytest.fixture
    async def bus_farm(self) -> AsyncIterator[BusFarm]:
        broker = MemoryBroker(SystemClock(), idle_s=IDLE_S, stop_grace_s=0.3)

        def make(instance: str, metrics: CommonMetrics) -> FarmBus:
            return MemoryBus(broker, instance, metrics)

        farm = BusFarm(make)
        yield farm
        await farm.stop()

    async def test_a_broker_that_is_down_refuses_and_a_topic_that_vanished_is_a_gap(self) -> None:
        broker, metrics = MemoryBroker(SystemClock()), CommonMetrics("test")
        bus, topic, told = MemoryBus(broker, "one", metrics), fresh_topic(), asyncio.Event()

        async def on_gap() -> None:
            told.set()

        await bus.listen(topic, Notes(), on_gap)
        broker.down = True
        with pytest.raises(DependencyDown):
            await bus.publish(messages(topic, 1))
        broker.forget(topic)
        await asyncio.wait_for(told.wait(), 1)
        await bus.stop()


def farm_on(url: str, times: Times = SHORT) -> BusFarm:
    def make(instance: str, metrics: CommonMetrics) -> FarmBus:
        return RedisStreamsBus(url, instance, SystemClock(), metrics, times=times)

    return BusFarm(make)


@pytest.mark.redis
class TestRedisStreams(BusContract):
    @pytest.fixture
    async def bus_farm(self, redis_url: str) -> AsyncIterator[BusFarm]:
        farm = farm_on(redis_url)
        yield farm
        await farm.stop()


@pytest.mark.redis
class TestRedisStreamsAlone:
    """What Redis can do to a bus, on a server that a test may kill."""

    @pytest.fixture
    async def bus_farm(self, own_redis_server: RedisServer) -> AsyncIterator[BusFarm]:
        farm = farm_on(own_redis_server.url)
        yield farm
        await farm.stop()

    @pytest.fixture
    async def redis(self, own_redis_server: RedisServer) -> AsyncIterator[RedisClient]:
        client = RedisClient(own_redis_server.url)
        yield client
        await client.close()

    async def test_a_restart_is_survived_and_nothing_is_lost(
        self, bus_farm: BusFarm, own_redis_server: RedisServer
    ) -> None:
        bus, topic, notes, heard = await bus_farm.start("one"), fresh_topic(), Notes(), Notes()
        gaps: list[str] = []

        async def on_gap() -> None:
            gaps.append("gap")

        await bus.subscribe(topic, GROUP, notes)
        await bus.listen(topic, heard, on_gap)
        before = messages(topic, 100)
        await bus.publish(before)
        await eventually(lambda: notes.all_of(before) and heard.all_of(before))
        await asyncio.to_thread(own_redis_server.kill)
        with pytest.raises(DependencyDown, match="redis"):
            await bus.publish(messages(topic, 1, first=100))
        with pytest.raises(DependencyDown):
            await bus.ping()
        await asyncio.to_thread(own_redis_server.start)
        await eventually(lambda: answers(bus), within_s=10)
        after = messages(topic, 100, first=100)
        await bus.publish(after)
        await eventually(lambda: notes.all_of(after) and heard.all_of(after), within_s=10)
        await eventually(lambda: gaps == ["gap"], message="a restart may have lost the last second")

    async def test_a_lost_stream_begins_anew_with_its_group_and_is_a_gap(
        self, bus_farm: BusFarm, redis: RedisClient
    ) -> None:
        bus, topic, notes, heard = await bus_farm.start("one"), fresh_topic(), Notes(), Notes()
        gap = asyncio.Event()

        async def on_gap() -> None:
            gap.set()

        await bus.subscribe(topic, GROUP, notes)
        await bus.listen(topic, heard, on_gap)
        before = messages(topic, 3)
        await bus.publish(before)
        await eventually(lambda: notes.all_of(before) and heard.all_of(before))
        await redis.call("FLUSHALL")
        await asyncio.wait_for(gap.wait(), 5)
        after = messages(topic, 3, first=3)
        await bus.publish(after)
        await eventually(lambda: notes.all_of(after) and heard.all_of(after))

    async def test_a_listener_that_is_too_far_behind_skips_to_now_and_is_told(
        self, own_redis_server: RedisServer
    ) -> None:
        farm = farm_on(own_redis_server.url, Times(group_retention_ms=200, janitor_period_s=60))
        bus, topic, heard = await farm.start("one"), fresh_topic(), Notes()
        gap, slow = asyncio.Event(), asyncio.Event()

        async def on_gap() -> None:
            gap.set()

        async def handle(message: Message) -> None:
            await heard(message)
            await slow.wait()

        await bus.listen(topic, handle, on_gap)
        await bus.publish(messages(topic, 1))
        await eventually(lambda: len(heard.got) == 1)
        await bus.publish(messages(topic, 10, first=1))
        await asyncio.sleep(0.25)  # real time has to pass for a message to grow old
        slow.set()
        await asyncio.wait_for(gap.wait(), 5)
        late = messages(topic, 1, first=11)
        await bus.publish(late)
        await eventually(lambda: heard.all_of(late))
        assert len(heard.got) == 2
        await farm.stop()

    async def test_finished_messages_are_trimmed_and_unfinished_ones_never(
        self, own_redis_server: RedisServer, redis: RedisClient
    ) -> None:
        farm = farm_on(own_redis_server.url, Times(group_retention_ms=1, janitor_period_s=0.05, stop_grace_s=0.1))
        bus, topic, notes = await farm.start("one"), fresh_topic(), Notes()
        key = entries.stream_key(topic)
        await bus.subscribe(topic, "quick", notes)
        begun = asyncio.Event()
        await bus.subscribe(topic, "stuck", stuck(begun))
        await bus.publish(messages(topic, 1_000))
        await eventually(lambda: len(notes.got) == 1_000)
        lag = {"topic": topic, "group": "stuck"}
        await eventually(lambda: farm.sample("one", "consumer_lag_events", **lag) == 1_000)
        assert await redis.call("XLEN", key) == 1_000
        await farm.stop()
        finishing = farm_on(own_redis_server.url, Times(group_retention_ms=1, janitor_period_s=0.05))
        again, rest = await finishing.start("one"), Notes()
        await again.subscribe(topic, "stuck", rest)
        await eventually(lambda: len(rest.got) == 1_000)

        async def trimmed() -> bool:
            return int(await redis.call("XLEN", key)) <= 100  # whole nodes only

        await eventually(trimmed)
        await finishing.stop()

    async def test_a_declared_group_that_never_came_keeps_its_messages(
        self, own_redis_server: RedisServer, redis: RedisClient
    ) -> None:
        farm = farm_on(own_redis_server.url, Times(group_retention_ms=1, janitor_period_s=0.05))
        bus = await farm.start("one")
        await bus.publish(messages("wallet.payments.v1", 300))
        notes = Notes()
        await bus.subscribe("wallet.payments.v1", "another", notes)
        await eventually(lambda: len(notes.got) == 300)
        looks = "job_runs_total"
        labels = {"job": "stream_janitor", "outcome": "done"}
        seen = farm.sample("one", looks, **labels) or 0
        await eventually(lambda: (farm.sample("one", looks, **labels) or 0) >= seen + 2)
        assert await redis.call("XLEN", entries.stream_key("wallet.payments.v1")) == 300
        await farm.stop()

    async def test_pending_entries_that_were_trimmed_are_let_go(self, bus_farm: BusFarm, redis: RedisClient) -> None:
        topic, begun = fresh_topic(), asyncio.Event()
        key = entries.stream_key(topic)
        dying = await bus_farm.start("dying")
        await dying.subscribe(topic, GROUP, stuck(begun))
        await dying.publish(messages(topic, 5))
        await begun.wait()
        await dying.abandon()
        await redis.call("XTRIM", key, "MAXLEN", 0)
        living, notes = await bus_farm.start("living"), Notes()
        await living.subscribe(topic, GROUP, notes)

        async def let_go() -> bool:
            return entries.pending_of(await redis.call("XPENDING", key, GROUP)) == (0, None)

        await eventually(let_go)
        assert notes.got == []

    async def test_a_foreign_entry_is_poison_and_not_the_end(self, bus_farm: BusFarm, redis: RedisClient) -> None:
        bus, topic, got = await bus_farm.start("one"), fresh_topic(), Notes()
        await bus.listen(topic, got, no_gap)
        await redis.call("XADD", entries.stream_key(topic), "*", "what", b"\xff\xfe")
        await eventually(lambda: got.got == [""])


async def answers(bus: FarmBus) -> bool:
    try:
        await bus.ping()
    except DependencyDown:
        return False
    return True
