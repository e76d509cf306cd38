"""Kafka by a consumer that belongs to no group and commits nothing."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from aiokafka import TopicPartition

from libs.common.errors import ConfigError, DependencyDown
from libs.common.events.topics import TOPICS, Topic
from libs.common.messaging.kafka.clients import bounded, closed, reader
from libs.common.messaging.kafka.cluster import Cluster
from libs.common.messaging.kafka.records import letters_topic
from libs.common.messaging.kafka.settings import servers_of
from loadtest.audit.doors.ports import CannotRead, Heard, Letter, Share, Stream

NAME = "stagedoor-audit"
READ_S = 120.0
CLOSE_S = 2.0
COORDINATOR_S = 15.0
POLL_MS = 500
BATCH_COUNT_MAX = 5_000

Spans = dict[TopicPartition, tuple[int, int]]
"""Per partition the first offset that is there, and the one that comes next."""


class KafkaDoor:
    def __init__(self, url: str) -> None:
        self._url = url

    def hear(self, bodies_of: frozenset[str]) -> Heard:
        try:
            return asyncio.run(_hear(servers_of(self._url), bodies_of))
        except (DependencyDown, ConfigError) as error:
            raise CannotRead(str(error)) from error


async def _hear(servers: tuple[str, ...], bodies_of: frozenset[str]) -> Heard:
    return await _Listening(servers).hear(bodies_of)


class _Listening:
    """One reading of everything."""

    def __init__(self, servers: tuple[str, ...]) -> None:
        self._cluster = Cluster(servers, NAME)
        self._reader = reader(servers, NAME, max_partition_fetch_bytes=4 * 1024 * 1024)

    async def hear(self, bodies_of: frozenset[str]) -> Heard:
        heard = Heard()
        await self._cluster.open()
        try:
            async with bounded("answer", 10.0):
                await self._reader.start()
            counts = await self._cluster.partition_counts()
            for topic in TOPICS.values():
                if topic.name not in counts:
                    raise DependencyDown(f"there is no topic {topic.name}")
                heard.streams[topic.name] = await self._stream(
                    topic, counts[topic.name], with_bodies=topic.name in bodies_of
                )
                for group in topic.groups:
                    heard.shares.append(await self._share(topic.name, group, counts[topic.name]))
                    heard.letters += await self._letters(topic.name, group)
        finally:
            await closed(self._reader, CLOSE_S)
            await self._cluster.close(CLOSE_S)
        return heard

    async def _stream(self, topic: Topic, partition_count: int, *, with_bodies: bool) -> Stream:
        spans = await self._spans(topic.name, partition_count)
        stream = Stream(topic.name)
        trimmed_until_ms = [0]
        async for record in self._records(spans):
            first, _ = spans[TopicPartition(topic.name, record.partition)]
            if record.offset == first and first > 0:
                trimmed_until_ms.append(record.timestamp)
            stream.told[_header(record, "ce_id")] = record.timestamp
            if with_bodies:
                stream.bodies.append(record.value or b"")
        is_emptied = any(first == end > 0 for first, end in spans.values())
        if not topic.compacted and not is_emptied:
            stream.whole_from_ms = max(trimmed_until_ms)
        return stream

    async def _share(self, topic: str, group: str, partition_count: int) -> Share:
        spans = await self._spans(topic, partition_count)
        finished = await self._finished(topic, group, partition_count)
        behind = {
            partition: (max(first, finished[partition.partition]), end)
            for partition, (first, end) in spans.items()
            if max(first, finished[partition.partition]) < end
        }
        # The oldest that waits is the first record of some partition.
        firsts = {partition: (start, start + 1) for partition, (start, _) in behind.items()}
        waiting_since = [record.timestamp async for record in self._records(firsts)]
        count = sum(end - start for start, end in behind.values())
        return Share(topic, group, count, min(waiting_since, default=0))

    async def _finished(self, topic: str, group: str, partition_count: int) -> dict[int, int]:
        """The first question about any group makes a broker look for somebody to answer it, which takes a moment."""
        give_up_s = asyncio.get_running_loop().time() + COORDINATOR_S
        while True:
            try:
                return await self._cluster.finished_offsets(topic, group, partition_count)
            except DependencyDown:
                if asyncio.get_running_loop().time() > give_up_s:
                    raise
                await asyncio.sleep(0.2)

    async def _letters(self, topic: str, group: str) -> list[Letter]:
        kept: dict[bytes, Letter] = {}
        async for record in self._records(await self._spans(letters_topic(topic, group), 1)):
            if record.value is None:
                kept.pop(record.key, None)
            else:
                position, error = record.key.decode(errors="replace"), _header(record, "error")
                kept[record.key] = Letter(topic, group, position, _header(record, "ce_id"), error)
        return list(kept.values())

    async def _spans(self, topic: str, partition_count: int) -> Spans:
        partitions = [TopicPartition(topic, number) for number in range(partition_count)]
        first = await self._cluster.first_offsets(partitions)
        end = await self._cluster.next_offsets(partitions)
        return {partition: (first[partition], end[partition]) for partition in partitions}

    async def _records(self, spans: Spans) -> AsyncIterator[Any]:
        """The records of these spans, in the order of their partitions."""
        left = {partition: end for partition, (first, end) in spans.items() if first < end}
        if not left:
            return
        self._reader.assign(list(left))
        for partition in left:
            self._reader.seek(partition, spans[partition][0])
        async with bounded("tell all it has", READ_S):
            while left:
                batches = await self._reader.getmany(*left, timeout_ms=POLL_MS, max_records=BATCH_COUNT_MAX)
                for partition, records in batches.items():
                    for record in records:
                        if record.offset < spans[partition][1]:
                            yield record
                # By position: compaction and transactions leave offsets without a record.
                left = {each: end for each, end in left.items() if await self._reader.position(each) < end}


def _header(record: Any, name: str) -> str:
    return (dict(record.headers).get(name) or b"").decode(errors="replace")
