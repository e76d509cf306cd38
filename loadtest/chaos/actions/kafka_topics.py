"""Topics on Kafka, as an action needs them. Everything raises DependencyDown when Kafka does not answer."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from operator import attrgetter
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.group import LeaveGroupRequest

from libs.common.errors import DependencyDown
from libs.common.messaging.kafka.clients import bounded, closed, reader
from libs.common.messaging.kafka.cluster import Cluster
from libs.common.messaging.kafka.records import group_id, message_of, tombstone
from libs.common.messaging.kafka.sender import Sender
from libs.common.messaging.kafka.settings import servers_of
from libs.common.messaging.ports import DeadLetter, Message

NAME = "stagedoor-chaos"
CALL_S = 15.0
POLL_MS = 500


async def last(url: str, topic: str, count: int) -> list[Message]:
    """The newest messages of a topic, as far as they are kept."""
    records: list[Any] = []
    async with _topic(url, topic) as (cluster, partitions):
        first, after = await cluster.first_offsets(partitions), await cluster.next_offsets(partitions)
        async with _client(url) as client, bounded(f"read {topic}", CALL_S):
            client.assign(partitions)
            for partition in partitions:
                client.seek(partition, max(first[partition], after[partition] - count))
            while any([await client.position(partition) < after[partition] for partition in partitions]):
                for found in (await client.getmany(timeout_ms=POLL_MS)).values():
                    records += found
    return [message_of(record) for record in sorted(records, key=attrgetter("timestamp"))[-count:]]


async def rewind(url: str, topic: str, group: str) -> int:
    """Let the group begin again with the first message that is kept; how many there are.

    Kafka moves only a group without members: its members are made to leave. They must not run meanwhile, or they come
    back first.
    """
    async with _topic(url, topic) as (cluster, partitions):
        first, after = await cluster.first_offsets(partitions), await cluster.next_offsets(partitions)
        await _dismiss(url, group_id(topic, group))
        async with _client(url, group_id=group_id(topic, group)) as client, bounded(f"move {group}", CALL_S):
            client.assign(partitions)
            await client.commit(first)
    return sum(after[partition] - first[partition] for partition in partitions)


async def lag(url: str, topic: str, group: str) -> int:
    """How many messages the group has not finished."""
    async with _topic(url, topic) as (cluster, partitions):
        after = await cluster.next_offsets(partitions)
        finished = await cluster.finished_offsets(topic, group, len(partitions))
    return sum(next_ - max(0, finished[partition.partition]) for partition, next_ in after.items())


async def unbury(url: str, letters: Sequence[DeadLetter]) -> int:
    """Remove dead letters; how many. The messages stay in their topics: Kafka takes nothing out of one."""
    sender = Sender(servers_of(url), NAME, CALL_S)
    try:
        await sender.send([tombstone(letter) for letter in letters])
    finally:
        await sender.close()
    return len(letters)


async def _dismiss(url: str, group: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=list(servers_of(url)), client_id=NAME)
    try:
        async with bounded(f"dismiss the members of {group}", CALL_S):
            await admin.start()
            (answer,) = await admin.describe_consumer_groups([group])
            ((_, _, _, _, _, members, *_),) = answer.groups
            coordinator = await admin.find_coordinator(group)
            for member, *_ in members:
                await admin._client.send(coordinator, LeaveGroupRequest(group, member))  # noqa: SLF001 (it has no verb for it)
    finally:
        await admin.close()


@asynccontextmanager
async def _topic(url: str, topic: str) -> AsyncIterator[tuple[Cluster, list[TopicPartition]]]:
    cluster = Cluster(servers_of(url), NAME)
    try:
        await cluster.open()
        counts = await cluster.partition_counts()
        if topic not in counts:
            raise DependencyDown(f"kafka has no topic {topic}")
        yield cluster, [TopicPartition(topic, number) for number in range(counts[topic])]
    finally:
        await cluster.close()


@asynccontextmanager
async def _client(url: str, **options: Any) -> AsyncIterator[Any]:
    client = reader(servers_of(url), NAME, **options)
    try:
        async with bounded("answer", CALL_S):
            await client.start()
        yield client
    finally:
        await closed(client)
