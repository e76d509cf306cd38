"""The event bus on Redis Streams: one stream per topic, consumer groups for shared work, plain reads for listeners.

    publish    XADD, a batch at once, over the shared connection
    subscribe  `consumer.py`: XREADGROUP on its own connection, XACK after the effect, XAUTOCLAIM of what others left
    listen     `listener.py`: XREAD on its own connection, from a remembered position
    in the background  `janitor.py`: lag, trimming

Redis persists by append-only file, every second: a power loss can take the last second of events. That costs time, not
facts: stores keep published events for a day, sagas re-send until answered, listeners read the truth after a gap.
Needs Redis 6.2 or newer (or Valkey): XAUTOCLAIM and XTRIM MINID.
"""

import asyncio
from collections.abc import Sequence

from libs.common.clock import Clock
from libs.common.errors import ConfigError
from libs.common.events.topics import TOPICS
from libs.common.jobs import Cycle
from libs.common.messaging.ports import DeadLetter, Handler, Message, OnGap
from libs.common.messaging.redis_streams import entries
from libs.common.messaging.redis_streams.consumer import GroupConsumer
from libs.common.messaging.redis_streams.janitor import Janitor
from libs.common.messaging.redis_streams.listener import StreamListener
from libs.common.messaging.redis_streams.settings import Context, Times
from libs.common.metrics import CommonMetrics
from libs.common.redis_client import RedisClient

PUBLISH_COUNT_MAX = 500
"""Messages sent in one write."""

VERSION_MIN = (6, 2)


class RedisStreamsBus:
    """An `EventBus` of one process. `instance` is unique among the copies of a service and stays over restarts."""

    def __init__(
        self, redis_url: str, instance: str, clock: Clock, metrics: CommonMetrics, *, times: Times | None = None
    ) -> None:
        self._commands = RedisClient(redis_url, name=instance, setting="BROKER_URL")
        self._context = Context(redis_url, instance, clock, metrics, self._commands, times or Times())
        self._janitor = Janitor(self._context)
        self._keeping = Cycle(
            "stream_janitor", self._context.times.janitor_period_s, self._janitor.look, clock, metrics
        )
        self._consumers: list[GroupConsumer] = []
        self._listeners: list[StreamListener] = []
        self._published = {topic: metrics.published.labels(topic) for topic in TOPICS}

    async def start(self) -> None:
        """Connect. Raises ConfigError for a server that is too old, DependencyDown when none answers."""
        version = entries.server_info(await self._commands.call("INFO", "server")).get("redis_version", "0")
        if tuple(int(part) for part in version.split(".")[:2]) < VERSION_MIN:
            raise ConfigError(f"BROKER_URL: Redis {version} is too old for streams; 6.2 or newer is needed")
        await self._keeping.start()

    async def stop(self) -> None:
        await asyncio.gather(*(consumer.stop() for consumer in self._consumers))
        await self._close()

    async def abandon(self) -> None:
        """Let go of everything at once, as a crash would."""
        await asyncio.gather(*(consumer.abandon() for consumer in self._consumers))
        await self._close()

    async def ping(self) -> None:
        await self._commands.ping()
        for consumer in self._consumers:
            consumer.check()
        for listener in self._listeners:
            listener.check()

    async def publish(self, messages: Sequence[Message]) -> None:
        for start in range(0, len(messages), PUBLISH_COUNT_MAX):
            batch = messages[start : start + PUBLISH_COUNT_MAX]
            await self._commands.call_many([entries.add_command(message) for message in batch])
            for message in batch:
                self._count_published(message.topic)

    async def subscribe(self, topic: str, group: str, handler: Handler) -> None:
        consumer = GroupConsumer(self._context, topic, group, handler)
        self._consumers.append(consumer)
        self._janitor.topics[topic] = None
        self._janitor.shares[topic, group] = None
        await consumer.join()

    async def listen(self, topic: str, handler: Handler, on_gap: OnGap) -> None:
        listener = StreamListener(self._context, topic, handler, on_gap)
        self._listeners.append(listener)
        self._janitor.topics[topic] = None
        await listener.join()

    async def dead_letters(self, topic: str, group: str, count_max: int) -> list[DeadLetter]:
        key = entries.letters_key(topic, group)
        found = entries.entries_of(await self._commands.call("XRANGE", key, "-", "+", "COUNT", count_max))
        return [entries.letter_of(topic, group, entry) for entry in found]

    async def redeliver(self, letter: DeadLetter) -> None:
        await self.publish([letter.message])
        # Only now: a crash in between leaves the letter, and the message comes twice rather than never.
        await self._commands.call("XDEL", entries.letters_key(letter.message.topic, letter.group), letter.position)

    def _count_published(self, topic: str) -> None:
        counter = self._published.get(topic)
        if counter is None:
            counter = self._published[topic] = self._context.metrics.published.labels(topic)
        self._janitor.topics[topic] = None
        counter.inc()

    async def _close(self) -> None:
        for listener in self._listeners:
            await listener.stop()
        await self._keeping.stop()
        await self._commands.close()
