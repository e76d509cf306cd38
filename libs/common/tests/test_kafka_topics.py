"""What a service on Kafka is told when it cannot work, and the topics it needs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from libs.common.errors import ConfigError, DependencyDown
from libs.common.events.topics import TOPICS, Topic
from libs.common.messaging.kafka.bus import KafkaBus
from libs.common.messaging.kafka.provisioning import plans, provide
from libs.common.messaging.kafka.records import letters_topic
from libs.common.messaging.kafka.sender import is_too_old
from libs.common.messaging.kafka.settings import servers_of
from libs.common.messaging.opening import open_bus
from libs.common.metrics import CommonMetrics
from libs.common.system import SystemClock
from libs.common.testing.bus_contract import GROUP, Notes, fresh_topic, no_gap
from libs.common.testing.eventually import eventually
from libs.common.testing.kafka_broker import KafkaFarms

ROOT = Path(__file__).parents[3]


@pytest.mark.kafka
async def test_a_topic_that_is_missing_is_one_sentence(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bus, topic = KafkaBus(broker_url, "one", SystemClock(), CommonMetrics("test")), fresh_topic()
    said = rf"BROKER_URL: there is no topic {topic} at kafka://.*; `make topics` makes what is missing"
    await bus.start()
    with pytest.raises(ConfigError, match=said):
        await bus.subscribe(topic, GROUP, Notes())
    with pytest.raises(ConfigError, match=said):
        await bus.listen(topic, Notes(), no_gap)
    await bus.stop()
    monkeypatch.setitem(TOPICS, topic, Topic(topic, "key"))
    late = KafkaBus(broker_url, "one", SystemClock(), CommonMetrics("test"))
    with pytest.raises(ConfigError, match=said):
        await late.start()
    await late.stop()


@pytest.mark.kafka
def test_the_topics_command_may_be_repeated(broker_url: str) -> None:
    names = {plan.name for plan in plans(TOPICS.values(), 1)}
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-m", "infra.kafka", "topics"],
            env={**os.environ, "BROKER_URL": broker_url},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    assert dict(line.split(": ") for line in done.stdout.splitlines()) == dict.fromkeys(names, "unchanged")


@pytest.mark.kafka
async def test_a_topic_is_made_grown_and_set_right(kafka_farms: KafkaFarms, kafka_admin: AIOKafkaAdminClient) -> None:
    name = fresh_topic()
    letters = letters_topic(name, "g")
    small, large = Topic(name, "key", ("g",), 2), Topic(name, "key", ("g",), 5, compacted=True)
    assert await kafka_farms.make(small) == {name: "made", letters: "made"}
    assert await kafka_farms.make(small) == {name: "unchanged", letters: "unchanged"}
    assert await kafka_farms.make(large) == {name: "changed", letters: "unchanged"}
    assert await kafka_farms.make(small) == {name: "changed", letters: "unchanged"}
    counts = {topic["topic"]: len(topic["partitions"]) for topic in await kafka_admin.describe_topics(None)}
    assert (counts[name], counts[letters]) == (5, 1), "never fewer partitions"


@pytest.mark.kafka
async def test_what_an_operator_set_beside_ours_stays(
    kafka_farms: KafkaFarms, kafka_admin: AIOKafkaAdminClient
) -> None:
    topic = Topic(fresh_topic(), "key")
    await kafka_farms.make(topic)

    async def have(**wanted: str) -> bool:
        (answer,) = await kafka_admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name)])
        settings = {name.replace(".", "_"): value for name, value, *_ in answer.resources[0][4]}
        return wanted.items() <= settings.items()

    theirs = {"max.message.bytes": "2000000", "retention.ms": "1"}
    await kafka_admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name, theirs)])
    await eventually(lambda: have(max_message_bytes="2000000", retention_ms="1"))
    assert await kafka_farms.make(topic) == {topic.name: "changed"}
    await eventually(lambda: have(max_message_bytes="2000000", retention_ms=str(topic.retention_ms)))


@pytest.mark.kafka
async def test_more_replicas_than_brokers_are_one_sentence(broker_url: str) -> None:
    with pytest.raises(ConfigError, match="KAFKA_REPLICAS: 99 are asked for, and the cluster has"):
        await provide(servers_of(broker_url), TOPICS.values(), SystemClock(), replicas=99)


async def test_no_broker_is_a_part_that_is_down() -> None:
    bus = open_bus("kafka://127.0.0.1:1", "one", SystemClock(), CommonMetrics("test"))
    with pytest.raises(DependencyDown, match="kafka did not answer"):
        await bus.start()
    await bus.stop()


def test_a_kafka_before_3_7_is_too_old() -> None:
    assert is_too_old([(0, 0, 9), (1, 0, 15)]), "what 3.6 says"
    assert not is_too_old([(0, 0, 10), (1, 0, 16)]), "what 3.7 says"
    assert not is_too_old([(0, 0, 13), (1, 4, 17)]), "what 4.1 says"
    assert is_too_old([])


@pytest.mark.parametrize("url", ["kafka://", "kafka://host", "kafka://host:0", "kafka://a:1,b", "kafka://a:1/topic"])
def test_a_url_that_names_no_servers_is_one_sentence(url: str) -> None:
    with pytest.raises(ConfigError, match=r"BROKER_URL: expected kafka://host:port\[,host:port…\]"):
        open_bus(url, "one", SystemClock(), CommonMetrics("test"))


def test_a_url_may_name_several_servers() -> None:
    assert servers_of("kafka://a-1.example:9092,[::1]:9093/") == ("a-1.example:9092", "[::1]:9093")
