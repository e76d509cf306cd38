"""The dead letters of a group on a topic: `<topic>.dlq.<group>`, one partition, compacted.

Kafka deletes no single record. So a letter has a key of its own, where it was read (`partition-offset`), and is taken
away by a tombstone under that key; compaction removes both some time later. Letters that nobody takes away stay.
"""

from typing import Any

from aiokafka import TopicPartition

from libs.common.messaging.kafka.clients import bounded, closed, reader
from libs.common.messaging.kafka.records import letter_of, letters_topic
from libs.common.messaging.kafka.settings import POLL_S, Context
from libs.common.messaging.ports import DeadLetter

READ_S = 30.0
"""Time limit for reading the dead letters of one group."""

KEPT_COUNT_MAX = 20_000
"""Letters held while reading; what comes after them is not looked at until some of them are gone."""


async def dead_letters(context: Context, topic: str, group: str, count_max: int) -> list[DeadLetter]:
    """The oldest letters that were not taken away. Raises DependencyDown."""
    partition = TopicPartition(letters_topic(topic, group), 0)
    first = (await context.cluster.first_offsets([partition]))[partition]
    end = (await context.cluster.next_offsets([partition]))[partition]
    kept: dict[bytes, Any] = {}
    if first < end:
        client = reader(context.servers, context.instance)
        try:
            async with bounded("tell its dead letters", READ_S):
                await client.start()
                client.assign([partition])
                client.seek(partition, first)
                await _read_until(client, partition, end, kept)
        finally:
            await closed(client)
    return [letter_of(topic, group, record) for record in list(kept.values())[:count_max]]


async def _read_until(client: Any, partition: TopicPartition, end: int, kept: dict[bytes, Any]) -> None:
    while await client.position(partition) < end:
        found = await client.getmany(timeout_ms=round(POLL_S * 1000))
        for record in found.get(partition, ()):
            if record.value is None:
                kept.pop(record.key, None)
            elif len(kept) < KEPT_COUNT_MAX:
                kept[record.key] = record
