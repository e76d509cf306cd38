"""A look at the brokers every few seconds, by every bus instance: lag, and what its clients would not notice.

A client that gets nothing cannot tell whether there is nothing. So consumers and listeners are told where their topics
begin and end; what follows from it is theirs to decide.
"""

from dataclasses import dataclass, field

from aiokafka import TopicPartition

from libs.common.errors import DependencyDown
from libs.common.log import get_logger
from libs.common.messaging.kafka.consumer import GroupConsumer
from libs.common.messaging.kafka.listener import TopicListener
from libs.common.messaging.kafka.settings import Context

_log = get_logger(__name__)


@dataclass(slots=True)
class Lookout:
    """`consumers` and `listeners` are those of this instance; both grow as it starts."""

    context: Context
    consumers: list[GroupConsumer] = field(default_factory=list)
    listeners: list[TopicListener] = field(default_factory=list)

    async def look(self) -> bool:
        """One round. Never leaves more for another round at once. Raises DependencyDown."""
        try:
            counts = await self.context.cluster.partition_counts()
            for consumer in self.consumers:
                await self._look_at(consumer, counts.get(consumer.topic, 0))
            for listener in self.listeners:
                await listener.look(counts.get(listener.topic, 0))
        except DependencyDown:
            for consumer in self.consumers:
                consumer.look({}, {})
            raise
        return False

    async def _look_at(self, consumer: GroupConsumer, partition_count: int) -> None:
        partitions = [TopicPartition(consumer.topic, number) for number in range(partition_count)]
        if not partitions:
            consumer.look({}, {})
            return
        cluster = self.context.cluster
        first = {each.partition: offset for each, offset in (await cluster.first_offsets(partitions)).items()}
        ends = {each.partition: offset for each, offset in (await cluster.next_offsets(partitions)).items()}
        finished = await cluster.finished_offsets(consumer.topic, consumer.group, partition_count)
        lost = sum(max(0, first[number] - offset) for number, offset in finished.items() if offset >= 0)
        if lost:
            _log.error("trimmed before it was finished", topic=consumer.topic, group=consumer.group, count=lost)
        new = {
            number for number, offset in finished.items() if offset < 0 and ends[number] > 0
        } - consumer.progress.keys()
        if new:
            new -= await cluster.shared_partitions(consumer.topic, consumer.group)
        consumer.note_unshared(new)
        lag = sum(max(0, ends[number] - max(first[number], offset)) for number, offset in finished.items())
        self.context.metrics.consumer_lag.labels(consumer.topic, consumer.group).set(lag)
        consumer.look(ends, {number: max(first[number], offset) for number, offset in finished.items()})
