"""The event bus contract on a real Kafka, and what only Kafka can do to a bus. TEST_KAFKA_URL says where it is."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete
from aiokafka.consumer.fetcher import PartitionRecords
from typer.testing import CliRunner

from libs.common.errors import DependencyDown, Poison
from libs.common.events.topics import TOPICS, Topic
from libs.common.messaging import delivery, dlq
from libs.common.messaging.kafka import partitions
from libs.common.messaging.kafka.bus import KafkaBus
from libs.common.messaging.kafka.clients import METADATA_S
from libs.common.messaging.kafka.records import letters_topic
from libs.common.messaging.kafka.settings import Times
from libs.common.messaging.ports import Message
from libs.common.testing.bus_contract import (
    GROUP,
    BusContract,
    BusFarm,
    FarmBus,
    Notes,
    failing_once_each,
    fresh_topic,
    messages,
    no_gap,
    stuck,
)
from libs.common.testing.eventually import eventually
from libs.common.testing.kafka_broker import PARTITIONS, KafkaFarms

SHORT = Times(
    session_s=6.0,  # the least that a broker takes unless it is told otherwise
    heartbeat_s=0.3,
    drain_s=0.3,
    put_off_s=0.3,
    look_period_s=0.1,
    stop_grace_s=0.3,
)


@pytest.fixture
def bus_farm(kafka_farms: KafkaFarms) -> BusFarm:
    return kafka_farms.farm(SHORT)


@pytest.mark.kafka
class TestKafka(BusContract):
    """All of the contract."""


@pytest.mark.kafka
class TestKafkaAlone:
    """What Kafka can do to a bus."""

    async def test_two_instances_killed_in_turn_lose_nothing(self, bus_farm: BusFarm) -> None:
        topic, effects = await bus_farm.topic(), Counter[str]()
        sent = messages(topic, 900)

        async def handle(message: Message) -> None:
            await asyncio.sleep(0.005)
            effects[message.id] += 1

        async def born(instance: str) -> FarmBus:
            bus = await bus_farm.start(instance)
            await bus.subscribe(topic, GROUP, handle)
            return bus

        alive = {name: await born(name) for name in ("a", "b")}
        for n, name in enumerate(("a", "b", "a")):
            before = len(effects)
            await alive["b"].publish(sent[n * 300 : n * 300 + 300])
            await eventually(lambda before=before: len(effects) > before + 20)  # type: ignore[misc]  # a bound default
            await alive[name].abandon()
            alive[name] = await born(name)
        await eventually(lambda: effects.keys() == {message.id for message in sent}, within_s=20)
        lag = {"topic": topic, "group": GROUP}
        await eventually(lambda: bus_farm.sample("a", "consumer_lag_events", **lag) == 0)
        for bus in alive.values():
            await bus.stop()
        before = sum(effects.values())
        late = messages(topic, 1, first=900)
        again = await born("a")
        await again.publish(late)
        await eventually(lambda: late[0].id in effects, within_s=20)
        assert sum(effects.values()) == before + 1, "what is finished does not come again"

    async def test_an_instance_that_comes_back_soon_goes_on_with_what_it_had(self, bus_farm: BusFarm) -> None:
        topic, notes, begun = await bus_farm.topic(), Notes(), asyncio.Event()
        dying = await bus_farm.start("one")
        await dying.subscribe(topic, GROUP, stuck(begun))
        sent = messages(topic, 20)
        await dying.publish(sent)
        await begun.wait()
        await dying.abandon()
        back = await bus_farm.start("one")
        await back.subscribe(topic, GROUP, notes)
        await eventually(lambda: notes.all_of(sent), within_s=SHORT.session_s / 2)

    async def test_an_instance_that_stops_hands_its_partitions_over_at_once(self, bus_farm: BusFarm) -> None:
        topic, notes = await bus_farm.topic(), Notes()
        leaving, staying = await bus_farm.start("leaving"), await bus_farm.start("staying")
        for bus in (leaving, staying):
            await bus.subscribe(topic, GROUP, notes)
        await leaving.stop()
        sent = messages(topic, 100)
        await staying.publish(sent)
        await eventually(lambda: notes.all_of(sent), within_s=SHORT.session_s / 2)

    async def test_a_rebalance_waits_for_what_is_in_hand(self, bus_farm: BusFarm, kafka_farms: KafkaFarms) -> None:
        topic, notes, begun, go = await bus_farm.topic(), Notes(), asyncio.Event(), asyncio.Event()
        farm = kafka_farms.farm(Times(heartbeat_s=0.1, drain_s=5.0))
        one = await farm.start("one")

        async def handle(message: Message) -> None:
            begun.set()
            await go.wait()
            await notes(message)

        await one.subscribe(topic, GROUP, handle)
        sent = messages(topic, 40)
        await one.publish(sent)
        await begun.wait()
        two, seconds = await bus_farm.start("two"), Notes()
        joining = asyncio.create_task(two.subscribe(topic, GROUP, seconds))
        await asyncio.sleep(0.5)  # real time has to pass for the rebalance to reach the first member
        go.set()
        await joining
        assert notes.all_of(sent)
        late = messages(topic, 40, first=40)
        await one.publish(late)
        await eventually(lambda: {*notes.got, *seconds.got} >= {message.id for message in late})
        assert len(notes.got) + len(seconds.got) == 80, "nothing was handled twice"

    async def test_what_is_finished_ahead_of_an_unfinished_message_is_not_committed(self, bus_farm: BusFarm) -> None:
        topic, notes, after = await bus_farm.topic(), Notes(), Notes()
        first = await bus_farm.start("one")
        sent = [message for message in messages(topic, 70) if message.key == "k0"]

        async def handle(message: Message) -> None:
            if message.id == sent[3].id:
                await asyncio.Event().wait()
            await notes(message)

        await first.subscribe(topic, GROUP, handle)
        await first.publish(sent)
        await eventually(lambda: len(notes.got) == len(sent) - 1)
        await first.stop()
        again = await bus_farm.start("one")
        await again.subscribe(topic, GROUP, after)
        await eventually(lambda: after.all_of(sent[3:]))
        assert sorted(after.got) == sorted(message.id for message in sent[3:])

    async def test_a_partition_stops_at_a_distance_from_its_oldest_unfinished_message(
        self, bus_farm: BusFarm, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(partitions, "AHEAD_COUNT_MAX", 100)
        bus, topic, notes, go = await bus_farm.start("one"), await bus_farm.topic(), Notes(), asyncio.Event()
        sent = [message for message in messages(topic, 7_000) if message.key == "k0"]

        async def handle(message: Message) -> None:
            if message.id == sent[0].id:
                await go.wait()
            await notes(message)

        await bus.subscribe(topic, GROUP, handle)
        await bus.publish(sent)
        await eventually(lambda: len(notes.got) >= 100)
        await asyncio.sleep(0.3)  # long enough for many more, if anything let them through
        assert len(notes.got) <= 100 + delivery.IN_HAND_COUNT_MAX
        go.set()
        await eventually(lambda: notes.all_of(sent))

    async def test_what_waits_for_room_is_fetched_once(
        self, bus_farm: BusFarm, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fetched, original = Counter[tuple[int, int]](), PartitionRecords.__init__

        def note(self: PartitionRecords, tp: TopicPartition, *rest: Any) -> None:
            fetched[tp.partition, rest[2]] += 1  # where it begins
            original(self, tp, *rest)

        monkeypatch.setattr(PartitionRecords, "__init__", note)
        bus, topic, notes = await bus_farm.start("one"), await bus_farm.topic(), Notes()
        sent = messages(topic, 3_000)

        async def handle(message: Message) -> None:
            await asyncio.sleep(0.01)
            await notes(message)

        await bus.publish(sent)
        await bus.subscribe(topic, GROUP, handle)
        await eventually(lambda: notes.all_of(sent))
        assert len(fetched) >= PARTITIONS
        assert set(fetched.values()) == {1}

    async def test_a_dead_letter_tells_where_it_came_from(self, bus_farm: BusFarm, kafka_farms: KafkaFarms) -> None:
        bus, topic, notes = await bus_farm.start("one"), await bus_farm.topic(), Notes()
        sent = messages(topic, 10)
        await bus.subscribe(topic, GROUP, failing_once_each(notes, {sent[7].id: Poison("cannot be read")}))
        await bus.publish(sent)

        async def buried() -> bool:
            return len(await bus.dead_letters(topic, GROUP, 10)) == 1

        await eventually(buried)
        (record,) = await kafka_farms.records(letters_topic(topic, GROUP), 1)
        headers = dict(record.headers)
        where = int(headers["origin_partition"]), int(headers["origin_offset"])
        origin = next(
            each for each in await kafka_farms.records(topic, PARTITIONS) if (each.partition, each.offset) == where
        )
        assert dict(origin.headers)["ce_id"] == sent[7].id.encode()
        assert headers["origin_topic"] == topic.encode()
        assert headers["origin_group"] == GROUP.encode()
        assert headers["error"] == b"cannot be read"
        assert (await bus.dead_letters(topic, GROUP, 10))[0].position == f"{where[0]}-{where[1]}"

    async def test_letters_are_taken_away_one_by_one(self, bus_farm: BusFarm) -> None:
        bus, topic, notes = await bus_farm.start("one"), await bus_farm.topic(), Notes()
        sent = messages(topic, 4)
        errors: dict[str, Exception] = {message.id: Poison("not yet") for message in sent}
        await bus.subscribe(topic, GROUP, failing_once_each(notes, errors))
        await bus.publish(sent)

        async def count() -> int:
            return len(await bus.dead_letters(topic, GROUP, 10))

        await eventually(lambda: holds(count, 4))
        letters = await bus.dead_letters(topic, GROUP, 10)
        await bus.redeliver(letters[1])
        await bus.redeliver(letters[3])
        assert [letter.position for letter in await bus.dead_letters(topic, GROUP, 10)] == [
            letters[0].position,
            letters[2].position,
        ]
        assert len(await bus.dead_letters(topic, GROUP, 1)) == 1
        await eventually(lambda: len(notes.got) == 2)

    def test_the_dead_letter_tool_works_on_them(self, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        kafka_farms, topic = KafkaFarms(broker_url), Topic(fresh_topic(), "key", (GROUP,), 1)
        monkeypatch.setitem(TOPICS, topic.name, topic)
        environment = {"BROKER_URL": broker_url, "COLUMNS": "200"}
        asyncio.run(kafka_farms.make(topic))
        asyncio.run(kafka_farms.bury(messages(topic.name, 3)))
        only = ["--topic", topic.name]
        assert "not JSON" in CliRunner().invoke(dlq.app, ["list", *only], env=environment).output
        shown = CliRunner().invoke(dlq.app, ["show", *only, "--limit", "1"], env=environment).output
        assert f"{topic.name}/0" in shown
        assert f"{topic.name}/1" not in shown
        replayed = CliRunner().invoke(dlq.app, ["replay", *only, "--limit", "2", "--rate", "1000"], env=environment)
        assert "2 replayed" in replayed.output
        assert f"{topic.name}/2" in CliRunner().invoke(dlq.app, ["show", *only], env=environment).output
        assert len(asyncio.run(kafka_farms.records(topic.name, 1))) == 2
        asyncio.run(kafka_farms.close())

    async def test_a_listener_whose_messages_were_trimmed_skips_to_now_and_is_told(
        self, bus_farm: BusFarm, kafka_admin: AIOKafkaAdminClient
    ) -> None:
        bus, topic, heard = await bus_farm.start("one"), await bus_farm.topic(), Notes()
        gap, slow = asyncio.Event(), asyncio.Event()

        async def on_gap() -> None:
            gap.set()

        async def handle(message: Message) -> None:
            await heard(message)
            await slow.wait()

        await bus.listen(topic, handle, on_gap)
        await bus.publish(messages(topic, 1))
        await eventually(lambda: len(heard.got) == 1)
        await bus.publish(messages(topic, 100, first=1))
        await asyncio.sleep(0.5)  # real time has to pass until the client has fetched these and stops fetching
        unread = messages(topic, 100, first=101)
        await bus.publish(unread)
        everything = {TopicPartition(topic, n): RecordsToDelete(-1) for n in range(PARTITIONS)}
        await kafka_admin.delete_records(everything)
        slow.set()
        await asyncio.wait_for(gap.wait(), 5)
        late = messages(topic, 10, first=201)
        await eventually(lambda: publish_until_heard(bus, late, heard))
        assert not set(heard.got) & {message.id for message in unread}

    async def test_a_listener_of_a_topic_made_anew_is_told_and_hears_all_of_it(
        self, bus_farm: BusFarm, kafka_admin: AIOKafkaAdminClient
    ) -> None:
        bus, topic, heard, gap = await bus_farm.start("one"), await bus_farm.topic(), Notes(), asyncio.Event()

        async def on_gap() -> None:
            gap.set()

        await bus.listen(topic, heard, on_gap)
        before = messages(topic, 10)
        await bus.publish(before)
        await eventually(lambda: heard.all_of(before))
        await eventually(looked(bus_farm, "one", 2))
        await kafka_admin.delete_topics([topic])
        await eventually(lambda: gone(kafka_admin, topic))
        await bus_farm.prepare(topic)
        late = messages(topic, 100, first=10)
        await eventually(lambda: publishes(bus, late), within_s=15)
        await asyncio.wait_for(gap.wait(), 15)
        await eventually(lambda: heard.all_of(late), within_s=15)

    async def test_a_partition_that_is_new_is_heard_and_taken_from_its_first_message_on(
        self, bus_farm: BusFarm, kafka_admin: AIOKafkaAdminClient
    ) -> None:
        topic, heard, taken = await bus_farm.topic(), Notes(), Notes()
        first = await bus_farm.start("one")
        await first.subscribe(topic, GROUP, taken)
        await first.abandon()
        # Back under its name, and given what it had: from now on nobody in the group looks for partitions by itself.
        bus = await bus_farm.start("one")
        await bus.subscribe(topic, GROUP, taken)
        await bus.listen(topic, heard, no_gap)
        await kafka_admin.create_partitions({topic: NewPartitions(PARTITIONS * 3)})
        another = await bus_farm.start("two")
        late = messages(topic, 200)
        await eventually(lambda: publishes(another, late))
        await eventually(lambda: heard.all_of(late))
        await eventually(lambda: taken.all_of(late), within_s=3 * METADATA_S)

    async def test_a_client_that_gets_nothing_is_replaced(self, kafka_farms: KafkaFarms) -> None:
        farm = kafka_farms.farm(Times(session_s=6.0, look_period_s=0.1, stall_s=1.0, stop_grace_s=0.3))
        bus, topic, notes, heard = await farm.start("one"), await farm.topic(), Notes(), Notes()
        assert isinstance(bus, KafkaBus)
        await bus.subscribe(topic, GROUP, notes)
        await bus.listen(topic, heard, no_gap)
        (consumer,) = bus._lookout.consumers
        stalled = consumer._client
        stalled._fetcher._fetch_task.cancel()  # what a bug of the library did to it once
        for n in range(2):  # the first may be in the fetch that was on its way
            sent = messages(topic, 50, first=50 * n)
            await bus.publish(sent)
            await eventually(lambda sent=sent: heard.all_of(sent) and notes.all_of(sent), within_s=10)  # type: ignore[misc]  # a bound default
        assert consumer._client is not stalled
        await bus.ping()

    async def test_a_handler_may_take_longer_than_a_client_may_get_nothing(self, kafka_farms: KafkaFarms) -> None:
        farm = kafka_farms.farm(Times(session_s=6.0, look_period_s=0.1, stall_s=1.0, stop_grace_s=0.3))
        bus, topic, heard, notes = await farm.start("one"), await farm.topic(), Notes(), Notes()

        def slow(handler: Notes) -> Callable[[Message], Awaitable[None]]:
            async def handle(message: Message) -> None:
                await asyncio.sleep(0.4)
                await handler(message)

            return handle

        await bus.subscribe(topic, GROUP, slow(notes))
        await bus.listen(topic, slow(heard), no_gap)
        sent = messages(topic, 4)
        await bus.publish(sent)
        await eventually(lambda: notes.all_of(sent) and heard.all_of(sent))
        assert len(notes.got) == len(heard.got) == 4

    async def test_a_foreign_record_is_handed_over_with_empty_parts(
        self, bus_farm: BusFarm, kafka_farms: KafkaFarms
    ) -> None:
        bus, topic, got = await bus_farm.start("one"), await bus_farm.topic(), Notes()
        await bus.listen(topic, got, no_gap)
        await bus.publish([Message(topic, "", "", "", "", 0, b"\xff\xfe")])
        await eventually(lambda: got.got == [""])


def looked(farm: BusFarm, instance: str, count: int) -> Callable[[], bool]:
    """Whether the lookout has looked so often from now on."""
    labels = {"job": "kafka_lookout", "outcome": "done"}
    goal = (farm.sample(instance, "job_runs_total", **labels) or 0) + count
    return lambda: (farm.sample(instance, "job_runs_total", **labels) or 0) >= goal


async def holds(count: Callable[[], Awaitable[int]], wanted: int) -> bool:
    return await count() == wanted


async def gone(kafka_admin: AIOKafkaAdminClient, topic: str) -> bool:
    return topic not in await kafka_admin.list_topics()


async def publishes(bus: FarmBus, sent: list[Message]) -> bool:
    try:
        await bus.publish(sent)
    except DependencyDown:
        return False
    return True


async def publish_until_heard(bus: FarmBus, sent: list[Message], heard: Notes) -> bool:
    await bus.publish(sent)
    return heard.all_of(sent)
