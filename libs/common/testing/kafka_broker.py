"""A real Kafka for the tests: where it is, topics that belong to one test, and what is on them."""

import asyncio
import os
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from libs.common.events.topics import TOPICS, Topic
from libs.common.messaging.kafka.bus import KafkaBus
from libs.common.messaging.kafka.clients import reader
from libs.common.messaging.kafka.provisioning import plans, provide
from libs.common.messaging.kafka.records import letter_record
from libs.common.messaging.kafka.sender import Sender
from libs.common.messaging.kafka.settings import Times, servers_of
from libs.common.messaging.ports import Message
from libs.common.metrics import CommonMetrics
from libs.common.system import SystemClock
from libs.common.testing.bus_contract import GROUP, BusFarm, FarmBus

GROUPS = (GROUP, "first", "second")
PARTITIONS = 4


def kafka_url() -> str:
    """TEST_KAFKA_URL, with the topics of the catalogue on it. Skips the test where there is no broker."""
    url = os.environ.get("TEST_KAFKA_URL", "")
    if not url:
        if os.environ.get("REQUIRE_REAL") == "1":
            pytest.fail("REQUIRE_REAL=1 and no Kafka: TEST_KAFKA_URL is not set")
        pytest.skip("no Kafka: `make test-real` brings one")
    asyncio.run(provide(servers_of(url), TOPICS.values(), SystemClock()))
    return url


@dataclass
class KafkaFarms:
    """Farms on one broker, each with its own times. What was made ends with `close`."""

    url: str
    farms: list[BusFarm] = field(default_factory=list)
    topics: list[Topic] = field(default_factory=list)

    def farm(self, times: Times) -> BusFarm:
        def make(instance: str, metrics: CommonMetrics) -> FarmBus:
            return KafkaBus(self.url, instance, SystemClock(), metrics, times=times)

        self.farms.append(BusFarm(make, self.prepare, handover_s=20.0))
        return self.farms[-1]

    async def prepare(self, topic: str) -> None:
        await self.make(Topic(topic, "key", GROUPS, PARTITIONS))

    async def make(self, topic: Topic) -> dict[str, str]:
        """Make a topic and the dead letters of its groups; returns what was done."""
        self.topics.append(topic)
        return await provide(servers_of(self.url), [topic], SystemClock())

    async def close(self) -> None:
        for farm in self.farms:
            await farm.stop()
        names = [plan.name for plan in plans(self.topics, 1)]
        if names:
            admin = AIOKafkaAdminClient(bootstrap_servers=list(servers_of(self.url)))
            await admin.start()
            await admin.delete_topics(names)
            await admin.close()

    async def bury(self, sent: list[Message]) -> None:
        """Put messages among the dead letters of their topic."""
        sender = Sender(servers_of(self.url), "test", 5.0)
        await sender.send([letter_record(message, GROUP, (0, n), "not JSON") for n, message in enumerate(sent)])
        await sender.close()

    async def records(self, topic: str, partitions: int) -> list[Any]:
        """Every record of a topic."""
        client = reader(servers_of(self.url), "test", auto_offset_reset="earliest")
        await client.start()
        client.assign([TopicPartition(topic, n) for n in range(partitions)])
        ends = await client.end_offsets(client.assignment())
        found: list[Any] = []
        while sum([await client.position(partition) for partition in ends]) < sum(ends.values()):
            for records in (await client.getmany(timeout_ms=100)).values():
                found += records
        await client.stop()
        return found
