"""A broker that is away, and one that delivers things twice, late and in another order.

It is the one of the running system: Kafka, or its Redis with the streams.
"""

from random import Random

from libs.common.errors import ConfigError
from libs.common.events.topics import TOPICS
from loadtest.chaos.actions import bus, kafka_topics, place, processes, redis_topics
from loadtest.chaos.actions.place import Needs


def needs() -> Needs:
    """Nothing, as long as the system runs its own broker."""
    return {}


def down(seconds: float) -> dict[str, float]:
    """Away for so many seconds, connections are refused; back when this returns, and how long that took in all."""
    name = _process()
    processes.keep_down(name, seconds)
    return {"seconds": seconds + processes.wait_ready(name)["seconds"]}


def bounce() -> dict[str, float]:
    """Killed and back, so that every client connects anew and every group finds its coordinator again; the seconds
    that took."""
    name = _process()
    processes.kill(name)
    return processes.wait_ready(name)


def replay(topic: str, group: str) -> dict[str, int]:
    """Deliver a topic to a group again, from the first message that is kept; how many. There is no undo: handlers take
    a second delivery for what it is, or this finds the one that does not. Raises ConfigError for an empty topic."""
    if topic not in TOPICS or group not in TOPICS[topic].groups:
        raise ConfigError(f"group: {group} takes nothing from {topic}; see libs/common/events/topics.py")
    url = bus.url_of()
    if not bus.is_kafka(url):
        return _some(topic, "messages", bus.run(redis_topics.rewind(url, topic, group)))
    members = [name for name in place.rows() if name.partition("-")[0] == group]  # a group goes by its room
    try:
        for name in members:
            processes.pause(name)
        return _some(topic, "messages", bus.run(kafka_topics.rewind(url, topic, group)))
    finally:
        for name in members:
            processes.resume(name)


def repeat(topic: str, count: int, seed: int) -> dict[str, int]:
    """Publish copies of the newest messages of a topic, shuffled: each comes twice, and late ones before early ones.
    There is no undo, as for `replay`. Raises ConfigError for an empty topic."""
    if topic not in TOPICS:
        raise ConfigError(f"topic: {topic!r} is not among {', '.join(TOPICS)}")
    url = bus.url_of()
    last = kafka_topics.last if bus.is_kafka(url) else redis_topics.last
    copies = bus.run(last(url, topic, count))
    Random(seed).shuffle(copies)  # noqa: S311 (an order, not a secret)
    bus.with_bus(lambda opened: opened.publish(copies))
    return _some(topic, "published", len(copies))


def _some(topic: str, what: str, count: int) -> dict[str, int]:
    if count == 0:
        raise ConfigError(f"topic: nobody has published anything to {topic} yet")
    return {what: count}


def _process() -> str:
    """The broker's process. Raises ConfigError when somebody else runs it."""
    name = "kafka" if bus.is_kafka(bus.url_of()) else "redis"
    return str(place.row(name)["name"])
