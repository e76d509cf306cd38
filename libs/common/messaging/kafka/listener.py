"""One instance's ear on a topic: everything published after `join`, without a group.

Nothing in Kafka remembers a listener. It remembers its own positions, goes on from there with every new client, and
calls `on_gap` when it may have missed something:

- its position is before the beginning: what it had not read was trimmed. It skips to the end, because the truth is read
  afresh anyway;
- its position is beyond the end, or a message before it is younger than what it had heard: the topic was cut or made
  anew, and all of it is heard;
- the brokers were out of reach for nearly as long as messages are kept;
- the handler failed.

A partition that is new was empty when `join` returned, so it is heard from its first message on.
"""

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from libs.common.errors import DependencyDown
from libs.common.log import get_logger
from libs.common.messaging.delivery import GapTeller, cancelled, error_text
from libs.common.messaging.kafka.clients import closed, keep_alive, reader
from libs.common.messaging.kafka.records import message_of
from libs.common.messaging.kafka.settings import POLL_S, READ_COUNT_MAX, SILENCE_S, Context, retention_s
from libs.common.messaging.ports import Handler, OnGap

RETENTION_MARGIN = 0.8
"""Part of the retention after which a silent broker may have lost messages and hidden it."""

_log = get_logger(__name__)


class TopicListener:
    """Starts with `join`, ends with `stop`."""

    def __init__(self, context: Context, topic: str, handler: Handler, on_gap: OnGap) -> None:
        self.topic = topic
        self.positions: dict[int, int] = {}
        """Per partition the offset that comes next."""
        self._moves: dict[int, int] = {}
        """Where to go on instead, from the next poll on."""
        self._context = context
        self._handler = handler
        self._gaps = GapTeller(topic, on_gap, context.clock, context.metrics)
        self._newest_ms: dict[int, int] = {}
        """Per partition the time of the youngest message heard, by the clock that gave them their times."""
        self._marks: dict[int, tuple[int, int]] = {}
        """Per partition the position at the last look, and the time of the youngest message then. Nothing before that
        position is younger, unless the topic is another one."""
        self._looked_s = 0.0
        self._polled_s = 0.0
        self._is_behind = False
        self._trouble = ""
        self._task: asyncio.Task[None] | None = None

    async def join(self, partition_count: int) -> None:
        """Take the positions; every message published after this returns is heard. Raises DependencyDown."""
        partitions = [TopicPartition(self.topic, number) for number in range(partition_count)]
        ends = await self._context.cluster.next_offsets(partitions)
        self.positions = {partition.partition: end for partition, end in ends.items()}
        self._looked_s = self._polled_s = self._context.clock.monotonic_s()
        self._task = asyncio.create_task(keep_alive(self._context.clock, self._live, self._in_trouble, self.topic))

    async def stop(self) -> None:
        if self._task is not None:
            await cancelled(self._task)
        await self._gaps.stop()

    def check(self) -> None:
        """Raise DependencyDown while this listener hears nothing."""
        if self._task is not None and self._task.done():
            raise DependencyDown(f"listener of {self.topic} has ended")
        if self._trouble:
            raise DependencyDown(f"listener of {self.topic}: {self._trouble}")
        silent_s = self._context.clock.monotonic_s() - self._polled_s
        if silent_s > SILENCE_S:
            raise DependencyDown(f"listener of {self.topic} has not asked for messages for {silent_s:.0f} s")

    async def look(self, partition_count: int) -> None:
        """Compare with what is on the brokers. Raises DependencyDown when they do not answer."""
        # From before the questions: what comes in the meantime is no sign of anything.
        before, marks = dict(self.positions), self._marks
        partitions = [TopicPartition(self.topic, number) for number in range(partition_count)]
        cluster = self._context.cluster
        first = {each.partition: offset for each, offset in (await cluster.first_offsets(partitions)).items()}
        ends = {each.partition: offset for each, offset in (await cluster.next_offsets(partitions)).items()}
        known = {each: marks[each.partition][1] for each in partitions if each.partition in marks}
        since = {each.partition: found for each, found in (await cluster.first_since(known)).items()}
        now_s = self._context.clock.monotonic_s()
        away_s, self._looked_s = now_s - self._looked_s, now_s
        if any(at < marks[number][0] and at_ms > marks[number][1] for number, (at, at_ms) in since.items()):
            self._move(first, "the topic was made anew")
        elif away_s > retention_s(self.topic) * RETENTION_MARGIN:
            self._move(ends, f"the brokers were out of reach for {away_s:.0f} s")
        else:
            self._moves.update({number: first[number] for number in ends.keys() - before.keys()})
        self._marks = {number: (self.positions[number], at_ms) for number, at_ms in self._newest_ms.items()}
        self._is_behind = any(end > before.get(number, 0) for number, end in ends.items())

    def _move(self, places: Mapping[int, int], why: str) -> None:
        """Go on from other offsets, from the next poll on: we may have missed something."""
        self._moves.update(places)
        for number in places:
            self._newest_ms.pop(number, None)
            self._marks.pop(number, None)
        self._gaps.tell(why)

    def _in_trouble(self, trouble: str) -> None:
        if not self._trouble:
            _log.warning("listener waits", topic=self.topic, error=trouble)
        self._trouble = trouble

    async def _live(self) -> None:
        """One life of a client; ends by a failure only."""
        stall_s = self._context.times.stall_s
        client = reader(self._context.servers, self._context.instance)
        try:
            async with asyncio.timeout(stall_s) as patience:
                await client.start()
                self._place(client)
                while True:
                    self._trouble = ""
                    self._polled_s = self._context.clock.monotonic_s()
                    if self._moves:
                        self._place(client)
                    found = await self._poll(client)
                    if found or not self._is_behind:
                        # A handler takes the time it takes.
                        patience.reschedule(None)
                        await self._handle(found)
                        patience.reschedule(asyncio.get_running_loop().time() + stall_s)
        finally:
            await closed(client)

    def _place(self, client: Any) -> None:
        """Set the client to our positions."""
        self.positions.update(self._moves)
        self._moves = {}
        client.assign([TopicPartition(self.topic, number) for number in self.positions])
        for number, position in self.positions.items():
            client.seek(TopicPartition(self.topic, number), position)

    async def _poll(self, client: Any) -> dict[TopicPartition, list[Any]]:
        try:
            found: dict[TopicPartition, list[Any]] = await client.getmany(
                timeout_ms=round(POLL_S * 1000), max_records=READ_COUNT_MAX
            )
        except OffsetOutOfRangeError as lost:
            await self._find_a_place(lost.args[0])
            return {}
        return found

    async def _find_a_place(self, lost: Collection[TopicPartition]) -> None:
        """Go on from a position that is there. One that is there by now had been moved since the client asked."""
        first = await self._context.cluster.first_offsets(lost)
        ends = await self._context.cluster.next_offsets(lost)
        for partition in lost:
            position = self.positions[partition.partition]
            if position < first[partition]:
                self._move({partition.partition: ends[partition]}, "unread messages were trimmed")
            elif position > ends[partition]:
                self._move({partition.partition: first[partition]}, "the topic was cut")

    async def _handle(self, found: Mapping[TopicPartition, list[Any]]) -> None:
        failure = ""
        for partition, records in found.items():
            number = partition.partition
            for record in records:
                try:
                    await self._handler(message_of(record))
                except Exception as error:  # noqa: BLE001  a listener has no dead letters: whatever it was, it is a gap
                    failure = error_text(error)
                self.positions[number] = record.offset + 1
                self._newest_ms[number] = max(self._newest_ms.get(number, 0), record.timestamp)
                self._polled_s = self._context.clock.monotonic_s()
        if failure:
            self._gaps.tell(failure)
