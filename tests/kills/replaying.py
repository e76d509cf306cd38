"""Topics told again from their beginning, and whether that changed anything.

Redis Streams let a group's progress be set while its members read. Kafka takes that from nobody as long as a group has
members, so there the consumers stand still until they are taken for gone; they wake up to a group without them, join it
anew and begin where it stands now.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

import redis
from aiokafka import AIOKafkaConsumer, TopicPartition

from infra.native.kafka_server import kafka_url
from libs.common.events.topics import TOPICS
from libs.common.messaging.kafka.settings import Times, servers_of
from libs.common.messaging.redis_streams.entries import stream_key
from libs.common.testing.eventually import eventually
from loadtest.audit.doors.ports import Body, Heard
from loadtest.audit.place import find
from loadtest.audit.world import Reader, World
from tests.e2e.system import IS_NATIVE
from tests.kills.stage import SETTLED_S, Stage

CONSUMERS = ("queue", "reservation", "wallet")
GONE_S = Times().session_s + 3.0
DECIDED = ("blocks", "reservations", "tickets", "entries", "sessions")
"""Collections that no clock changes once everything is at rest."""

GROUPS = tuple((topic.name, group) for topic in TOPICS.values() for group in topic.groups)


@dataclass
class Replay:
    """Of the broker and the stores of one system."""

    stage: Stage

    def __post_init__(self) -> None:
        # Where the system is, it says itself.
        self._reader: Reader = find(self.stage.system.environment).reader

    async def told_again(self) -> None:
        """Everything that the topics have is told again, and every group has finished it; of what came since then
        there is always something left while people buy."""
        began = await (self._reset_kafka() if IS_NATIVE else asyncio.to_thread(self._reset_redis))
        self.stage.seen.faults.append(f"replay of {began} events")

        had = _counts(await self._heard())
        behind: list[str] = []

        async def is_finished() -> bool:
            heard = await self._heard()
            came = {topic: count - had[topic] for topic, count in _counts(heard).items()}
            left = {(each.group, each.topic): each.unfinished_count for each in heard.shares}
            behind[:] = [f"{group} {topic}: {count}" for (group, topic), count in left.items() if count > came[topic]]
            return not behind

        try:
            await eventually(is_finished, SETTLED_S)
        except AssertionError:
            raise AssertionError(f"not at the end of their topics after {SETTLED_S:g} s: {behind}") from None

    async def changes_nothing(self) -> None:
        """The same once more while nobody does anything: every document says what it said.

        Its version may be another one: the wallet stores its answer anew when it is asked again.
        """
        before = _decided(await asyncio.to_thread(self._reader.read))
        await self.told_again()
        after = _decided(await asyncio.to_thread(self._reader.read))
        changed = {id_: (before.get(id_), after.get(id_)) for id_ in before.keys() | after.keys()}
        changed = {id_: states for id_, states in changed.items() if states[0] != states[1]}
        assert not changed, f"{len(changed)} documents were changed, such as {next(iter(changed.items()))}"

    async def _heard(self) -> Heard:
        broker = self._reader.broker
        assert broker is not None
        return await asyncio.to_thread(broker.hear, frozenset())

    def _reset_redis(self) -> int:
        with redis.Redis(unix_socket_path=str(self.stage.system.state_dir / "redis.sock")) as client:
            for topic, group in GROUPS:
                client.xgroup_setid(stream_key(topic), group, "0")
            return sum(int(client.xlen(stream_key(topic))) for topic, _ in GROUPS)

    async def _reset_kafka(self) -> int:
        for name in CONSUMERS:
            await self.stage.tell("pause", name)
        try:
            await asyncio.sleep(GONE_S)
            servers = servers_of(kafka_url((await self.stage.rows())["kafka"]["port"]))
            return sum([await _to_the_beginning(servers, topic, group) for topic, group in GROUPS])
        finally:
            for name in CONSUMERS:
                await self.stage.tell("resume", name)


async def _to_the_beginning(servers: tuple[str, ...], topic: str, group: str) -> int:
    """The number of messages that the topic has."""
    consumer: Any = AIOKafkaConsumer(bootstrap_servers=list(servers), group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(TOPICS[topic].partitions)]
        consumer.assign(partitions)
        first = await consumer.beginning_offsets(partitions)
        end = await consumer.end_offsets(partitions)
        await consumer.commit(first)
    finally:
        await consumer.stop()
    return sum(end[partition] - first[partition] for partition in partitions)


def _counts(heard: Heard) -> dict[str, int]:
    """Events by topic."""
    return {topic: len(stream.told) for topic, stream in heard.streams.items()}


def _decided(world: World) -> dict[tuple[str, str], Body]:
    return {(name, document.id): document.body for name in DECIDED for document in world.documents[name]}
