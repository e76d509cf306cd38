"""Questions to the brokers: which topics there are, where they begin and end, how far a group is.

Asked by clients of their own, so that the answers do not depend on the consumers they are about.
"""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

from libs.common.errors import DependencyDown
from libs.common.messaging.kafka.clients import CLOSE_S, REQUEST_S, bounded, closed, reader
from libs.common.messaging.kafka.records import group_id

PING_S = 2.0


class Cluster:
    """The brokers, for one bus instance. Everything raises DependencyDown, in bounded time, when they do not answer."""

    def __init__(self, servers: tuple[str, ...], name: str) -> None:
        self._servers = servers
        self._name = name
        self._admin: Any = None
        self._offsets: Any = None

    async def open(self) -> None:
        self._admin = AIOKafkaAdminClient(
            bootstrap_servers=list(self._servers), client_id=self._name, request_timeout_ms=round(REQUEST_S * 1000)
        )
        self._offsets = reader(self._servers, self._name)
        async with bounded("answer", REQUEST_S):
            await self._admin.start()
            await self._offsets.start()

    async def close(self, seconds: float = CLOSE_S) -> None:
        if self._admin is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._admin.close()
        if self._offsets is not None:
            await closed(self._offsets, seconds)

    async def ping(self) -> None:
        async with bounded("answer", PING_S):
            await self._admin.describe_topics([])

    async def partition_counts(self) -> dict[str, int]:
        """Every topic, with its number of partitions."""
        async with bounded("list its topics", REQUEST_S):
            topics = await self._admin.describe_topics(None)
        return {topic["topic"]: len(topic["partitions"]) for topic in topics if not topic["error_code"]}

    async def first_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset of the oldest record that is still there."""
        async with bounded("say where a topic begins", REQUEST_S):
            found: dict[TopicPartition, int] = await self._offsets.beginning_offsets(list(partitions))
        return found

    async def next_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset that the next record will have."""
        async with bounded("say where a topic ends", REQUEST_S):
            found: dict[TopicPartition, int] = await self._offsets.end_offsets(list(partitions))
        return found

    async def first_since(self, times_ms: Mapping[TopicPartition, int]) -> dict[TopicPartition, tuple[int, int]]:
        """Per partition the first record that is not older than the time given, as its offset and its time; those that
        have none are missing."""
        async with bounded("say what is younger", REQUEST_S):
            found = await self._offsets.offsets_for_times(dict(times_ms))
        return {partition: (at.offset, at.timestamp) for partition, at in found.items() if at is not None}

    async def finished_offsets(self, topic: str, group: str, count: int) -> dict[int, int]:
        """Per partition the offset below which the group has finished everything; -1 where it never committed."""
        partitions = [TopicPartition(topic, number) for number in range(count)]
        async with bounded("say what a group has finished", REQUEST_S):
            found = await self._admin.list_consumer_group_offsets(group_id(topic, group), partitions=partitions)
        if len(found) < count:
            raise DependencyDown(f"kafka does not know yet what {group} has finished on {topic}", retry_after_s=1)
        return {partition.partition: committed.offset for partition, committed in found.items()}

    async def shared_partitions(self, topic: str, group: str) -> set[int]:
        """The partitions that some member of the group has; none while they are being shared."""
        async with bounded("say how a group shares a topic", REQUEST_S):
            (answer,) = await self._admin.describe_consumer_groups([group_id(topic, group)])
        ((_, _, _, _, _, members, *_),) = answer.groups
        shares = [ConsumerProtocolMemberAssignment.decode(member[4]) for member in members if member[4]]
        return {partition.partition for share in shares for partition in share.partitions()}
