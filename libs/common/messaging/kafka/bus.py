"""The event bus on Kafka: one topic per topic, one Kafka group per subscription, plain reads for listeners.

    publish    `sender.py`: an idempotent producer, confirmed by all replicas in sync, bounded in time
    subscribe  `consumer.py`: a member of the group, commits after the effect
    listen     `listener.py`: all partitions, from remembered positions
    dead letters  `letters.py`: a compacted topic per group
    in the background  `lookout.py`: lag, stalled clients, lost and grown topics

Topics are made beforehand (`make topics`); a service that misses one refuses to start. No transactions: every event is
published at least once, and every handler knows an event it had. Needs Kafka 3.7 or newer.
"""

import asyncio
from collections.abc import Awaitable, Sequence

from libs.common.clock import Clock
from libs.common.errors import ConfigError
from libs.common.events.topics import TOPICS
from libs.common.jobs import Cycle
from libs.common.messaging.kafka import letters
from libs.common.messaging.kafka.cluster import Cluster
from libs.common.messaging.kafka.consumer import GroupConsumer
from libs.common.messaging.kafka.listener import TopicListener
from libs.common.messaging.kafka.lookout import Lookout
from libs.common.messaging.kafka.records import letters_topic, record_of, tombstone
from libs.common.messaging.kafka.sender import Sender
from libs.common.messaging.kafka.settings import Context, Times, servers_of
from libs.common.messaging.ports import DeadLetter, Handler, Message, OnGap
from libs.common.metrics import CommonMetrics

PUBLISH_COUNT_MAX = 500
"""Messages sent at once."""


class KafkaBus:
    """An `EventBus` of one process. `instance` is unique among the copies of a service and stays over restarts."""

    def __init__(
        self, url: str, instance: str, clock: Clock, metrics: CommonMetrics, *, times: Times | None = None
    ) -> None:
        times, servers = times or Times(), servers_of(url)
        cluster, sender = Cluster(servers, instance), Sender(servers, instance, times.send_s)
        self._context = Context(servers, instance, clock, metrics, cluster, sender, times)
        self._url = url
        self._lookout = Lookout(self._context)
        self._looking = Cycle("kafka_lookout", times.look_period_s, self._lookout.look, clock, metrics)
        self._published = {topic: metrics.published.labels(topic) for topic in TOPICS}

    async def start(self) -> None:
        """Connect. Raises ConfigError for a topic that is missing and a Kafka that is too old, DependencyDown when none
        answers."""
        try:
            await self._context.sender.open()
            await self._context.cluster.open()
            counts = await self._context.cluster.partition_counts()
            for topic in TOPICS.values():
                for name in (topic.name, *(letters_topic(topic.name, group) for group in topic.groups)):
                    self._partition_count(counts, name)
        except BaseException:  # what did not start is not stopped by anyone else
            await self._close([])
            raise
        await self._looking.start()

    async def stop(self) -> None:
        await self._close([consumer.stop() for consumer in self._lookout.consumers])

    async def abandon(self) -> None:
        """Let go of everything at once, as a crash would."""
        await self._close([consumer.abandon() for consumer in self._lookout.consumers])

    async def ping(self) -> None:
        await self._context.cluster.ping()
        for consumer in self._lookout.consumers:
            consumer.check()
        for listener in self._lookout.listeners:
            listener.check()

    async def publish(self, messages: Sequence[Message]) -> None:
        for start in range(0, len(messages), PUBLISH_COUNT_MAX):
            batch = messages[start : start + PUBLISH_COUNT_MAX]
            await self._context.sender.send([record_of(message) for message in batch])
            for message in batch:
                self._count_published(message.topic)

    async def subscribe(self, topic: str, group: str, handler: Handler) -> None:
        counts = await self._context.cluster.partition_counts()
        for name in (topic, letters_topic(topic, group)):
            self._partition_count(counts, name)
        consumer = GroupConsumer(self._context, topic, group, handler)
        self._lookout.consumers.append(consumer)
        await consumer.join()

    async def listen(self, topic: str, handler: Handler, on_gap: OnGap) -> None:
        count = self._partition_count(await self._context.cluster.partition_counts(), topic)
        listener = TopicListener(self._context, topic, handler, on_gap)
        await listener.join(count)
        self._lookout.listeners.append(listener)

    async def dead_letters(self, topic: str, group: str, count_max: int) -> list[DeadLetter]:
        return await letters.dead_letters(self._context, topic, group, count_max)

    async def redeliver(self, letter: DeadLetter) -> None:
        await self.publish([letter.message])
        # Only now: a crash in between leaves the letter, and the message comes twice rather than never.
        await self._context.sender.send([tombstone(letter)])

    def _partition_count(self, counts: dict[str, int], topic: str) -> int:
        if topic not in counts:
            raise ConfigError(
                f"BROKER_URL: there is no topic {topic} at {self._url}; `make topics` makes what is missing"
            )
        return counts[topic]

    def _count_published(self, topic: str) -> None:
        counter = self._published.get(topic)
        if counter is None:
            counter = self._published[topic] = self._context.metrics.published.labels(topic)
        counter.inc()

    async def _close(self, consumers: Sequence[Awaitable[None]]) -> None:
        await self._looking.stop()
        await asyncio.gather(*consumers, *(listener.stop() for listener in self._lookout.listeners))
        await asyncio.gather(self._context.sender.close(), self._context.cluster.close())
