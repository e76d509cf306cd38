"""The topics as Kafka should have them, from the catalogue in `libs.common.events.topics`.

Making them is idempotent, and careful with what it finds: a topic gets more partitions and never fewer, settings that
an operator made beside ours stay, and nothing is deleted. The number of replicas is decided when a topic is made.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code

from libs.common.clock import Clock
from libs.common.errors import ConfigError
from libs.common.events.topics import Topic
from libs.common.messaging.kafka.clients import REQUEST_S, bounded
from libs.common.messaging.kafka.records import letters_topic

REPLICAS_COUNT_USUAL = 3
DAY_MS = 24 * 60 * 60 * 1000

SEEN_S = 10.0
"""How long a topic that was made may take until the brokers tell of it."""

_SET_FOR_THE_TOPIC = 1
"""How a described setting says that it is the topic's own and not a default."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One topic as it should be."""

    name: str
    partitions: int
    settings: Mapping[str, str]


def plans(topics: Iterable[Topic], replicas: int) -> list[Plan]:
    """Each topic and the dead letters of its groups."""
    found = []
    for topic in topics:
        insync = {"min.insync.replicas": str(min(topic.insync_count_min, replicas))}
        found.append(Plan(topic.name, topic.partitions, {**insync, **_kept(topic)}))
        letters = {**insync, "cleanup.policy": "compact", "segment.ms": str(DAY_MS)}
        found += [Plan(letters_topic(topic.name, group), 1, letters) for group in topic.groups]
    return found


def _kept(topic: Topic) -> dict[str, str]:
    # Only whole segments are deleted or compacted, and never the one that is being written.
    segment_ms = min(DAY_MS, topic.retention_ms // 2)
    return {
        "cleanup.policy": "compact" if topic.compacted else "delete",
        "retention.ms": str(topic.retention_ms),
        "segment.ms": str(segment_ms),
        # Age is told by the broker's clock: an event may be told again a day after it happened.
        "message.timestamp.type": "LogAppendTime",
    }


async def provide(
    servers: tuple[str, ...], topics: Iterable[Topic], clock: Clock, replicas: int | None = None
) -> dict[str, str]:
    """Make what is missing and set what is not as it should be. Returns what was done, by topic: `made`, `changed` or
    `unchanged`. `replicas` of None: three, or as many as there are brokers. Raises ConfigError for more replicas than
    brokers, DependencyDown when none answers."""
    admin = AIOKafkaAdminClient(bootstrap_servers=list(servers), request_timeout_ms=round(REQUEST_S * 1000))
    try:
        async with bounded("answer", REQUEST_S):
            await admin.start()
            brokers = len((await admin.describe_cluster())["brokers"])
        if replicas is not None and replicas > brokers:
            raise ConfigError(f"KAFKA_REPLICAS: {replicas} are asked for, and the cluster has {brokers} brokers")
        replicas = replicas or min(REPLICAS_COUNT_USUAL, brokers)
        wanted = plans(topics, replicas)
        async with bounded("make the topics", 4 * REQUEST_S + SEEN_S):
            there = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics(None)}
            missing = [plan for plan in wanted if plan.name not in there]
            await _make(admin, missing, replicas, clock)
            changed = await _mend(admin, [plan for plan in wanted if plan.name in there], there)
    finally:
        await admin.close()
    made = dict.fromkeys((plan.name for plan in missing), "made")
    return {plan.name: made.get(plan.name) or changed[plan.name] for plan in wanted}


async def _make(admin: Any, missing: Sequence[Plan], replicas: int, clock: Clock) -> None:
    if not missing:
        return
    new = [NewTopic(plan.name, plan.partitions, replicas, topic_configs=plan.settings) for plan in missing]
    answer = await admin.create_topics(new)
    for topic, code, reason in answer.topic_errors:
        if code not in (0, TopicAlreadyExistsError.errno):  # someone may be making them at the same time
            raise for_code(code)(f"{topic}: {reason}")
    names = {plan.name for plan in missing}
    while not names <= {topic["topic"] for topic in await admin.describe_topics(None) if _has_leaders(topic)}:
        await clock.sleep(0.05)


def _has_leaders(topic: Mapping[str, Any]) -> bool:
    return not topic["error_code"] and all(partition["leader"] >= 0 for partition in topic["partitions"])


async def _mend(admin: Any, found: Sequence[Plan], there: Mapping[str, int]) -> dict[str, str]:
    grown = {plan.name: NewPartitions(plan.partitions) for plan in found if there[plan.name] < plan.partitions}
    if grown:
        await admin.create_partitions(grown)
    done = {}
    for plan in found:
        own = await _own_settings(admin, plan.name)
        is_right = plan.settings.items() <= own.items()
        if not is_right:
            # The request replaces all of a topic's own settings, those that are not ours too.
            await _set(admin, plan.name, {**own, **plan.settings})
        done[plan.name] = "unchanged" if is_right and plan.name not in grown else "changed"
    return done


async def _own_settings(admin: Any, topic: str) -> dict[str, str]:
    (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    ((code, reason, _, _, settings),) = answer.resources
    if code:
        raise for_code(code)(f"{topic}: {reason}")
    return {name: value for name, value, _, source, *_ in settings if source == _SET_FOR_THE_TOPIC}


async def _set(admin: Any, topic: str, settings: Mapping[str, str]) -> None:
    (answer,) = await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, dict(settings))])
    ((code, reason, *_),) = answer.resources
    if code:
        raise for_code(code)(f"{topic}: {reason}")
