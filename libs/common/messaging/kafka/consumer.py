"""One instance's share of a group's work on a topic.

    getmany, ≤ 200 at a time ──▶ crew, ≤ 16 handlers side by side ──▶ effect ──▶ commit, 100 ms' worth at once
        once there is room for a good batch       │ poison ──▶ <topic>.dlq.<group>, then finished
                                                  │ put off ──▶ kept here, and brought again a little later
                                                  └ fault ──▶ taking stops, and nothing is committed for it

Kafka knows one offset per partition and group: everything below it is finished. So what is committed is the offset of
the oldest message that is not, whatever came after it is done already. After a crash those come again.

The partitions are spread over the instances by Kafka's group protocol, under the instance's own name (static
membership): one that crashed and is back within `session_s` goes on with what it had, and nobody else notices. One that
stops leaves, and the others have its partitions at once. When partitions are taken away, what is in hand is finished
first, for a bounded time, and committed.
"""

import asyncio
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import Any

from aiokafka import TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import CommitFailedError, KafkaError

from libs.common.errors import DependencyDown
from libs.common.log import get_logger
from libs.common.messaging.delivery import RUNNING_COUNT_MAX, Crew, Outcome, backoff_s, cancelled, kept, within
from libs.common.messaging.kafka.clients import METADATA_S, closed, keep_alive, reader
from libs.common.messaging.kafka.partitions import InTurn, Progress
from libs.common.messaging.kafka.records import group_id, letter_record, message_of
from libs.common.messaging.kafka.settings import POLL_S, READ_COUNT_MAX, SILENCE_S, Context
from libs.common.messaging.ports import Handler, Message

FINISH_DELAY_S = 0.1
"""Commits wait this long for company. A crash in between repeats what they were for."""

FINISH_AT_STOP_S = 0.5

COMMIT_S = 5.0
COMMIT_STUCK_S = 15.0
"""A commit that is on its way for so long though messages arrive never comes back: its client is replaced."""

LETTERS_COUNT_MAX = 500

NOBODYS = -1
"""A partition to poll for without room: it says that we are alive, and what was fetched stays. What aiokafka has of a
paused partition it throws away, and fetches all of it again."""

KEPT_COUNT_MAX = 2_000
"""Messages that are put off, or poison and not buried yet; with more, nothing new is taken."""

_log = get_logger(__name__)

Place = tuple[int, int]
"""Partition and offset: how the crew knows a message."""


class GroupConsumer:
    """Starts with `join`, ends with `stop`, `abandon` or a handler's fault."""

    def __init__(self, context: Context, topic: str, group: str, handler: Handler) -> None:
        self.topic, self.group = topic, group
        self.crew: Crew[Place] = Crew(
            topic, group, handler, clock=context.clock, metrics=context.metrics, settle=self._settle
        )
        self.progress: dict[int, Progress] = {}
        self._in_turn = InTurn()
        self._leaves = False
        self._must_share_anew = False
        self._unshared_since_s: float | None = None
        self._is_behind = False
        self._context = context
        self._client: Any = None
        self._poisoned: dict[Place, tuple[Message, str]] = {}
        self._put_off: deque[tuple[float, Place]] = deque()
        self._room_made = asyncio.Event()
        self._to_finish = asyncio.Event()
        self._joined = asyncio.Event()
        self._finishing_now = asyncio.Lock()
        self._committing: asyncio.Task[None] | None = None
        self._awaited: tuple[asyncio.Task[None], float] | None = None
        """The commit that was on its way when messages arrived, and since when."""
        self._polled_s: float | None = None
        self._trouble = ""
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def join(self) -> None:
        """Join the group and work in the background. Returns with partitions in hand, unless that takes long."""
        clock = self._context.clock
        self._tasks = {
            "take": asyncio.create_task(keep_alive(clock, self._live, self._in_trouble, self.topic)),
            "finish": asyncio.create_task(kept(clock, self._finish_all, self._in_trouble, self.topic)),
        }
        await within(clock, self._context.times.join_s, self._joined.wait())

    async def stop(self) -> None:
        """Take nothing more, finish what runs within the grace, commit it, and hand the partitions to the others."""
        await self.crew.stop(self._context.times.stop_grace_s)
        await self._end("finish")
        try:
            await within(self._context.clock, FINISH_AT_STOP_S, self._finish_waiting())
        except DependencyDown as down:
            _log.info("left uncommitted", topic=self.topic, group=self.group, error=down.detail)
        self._leaves = True
        await self._end("take")

    async def abandon(self) -> None:
        """Let go of everything at once, as a crash would."""
        await self.crew.abandon()
        await self._end("finish")
        await self._end("take")

    def check(self) -> None:
        """Raise DependencyDown while this consumer does not get messages."""
        who = f"consumer {self.group} of {self.topic}"
        if self.crew.failure:
            raise DependencyDown(f"{who} stopped: {self.crew.failure}")
        for name, task in self._tasks.items():
            if task.done():
                raise DependencyDown(f"{who}: {name} has ended")
        if self._trouble:
            raise DependencyDown(f"{who}: {self._trouble}")
        if self._polled_s is None:
            raise DependencyDown(f"{who} has not joined its group yet")
        silent_s = self._context.clock.monotonic_s() - self._polled_s
        if silent_s > SILENCE_S:
            raise DependencyDown(f"{who} has not asked for messages for {silent_s:.0f} s")

    def look(self, ends: Mapping[int, int], finished: Mapping[int, int]) -> None:
        """Note whether there is something on our partitions that we could take and have not."""
        self._is_behind = any(
            ends.get(number, 0) > max(progress.next, finished.get(number, 0)) and not progress.is_far_ahead
            for number, progress in self.progress.items()
        )

    def note_unshared(self, partitions: Collection[int]) -> None:
        """These have messages and nobody in the group has them. When that stays so, the group shares anew.

        The member that shared the partitions last watches for new ones. But one that is back under its name does not
        know that it was the one.
        """
        now_s = self._context.clock.monotonic_s()
        if not partitions:
            self._unshared_since_s = None
        elif self._unshared_since_s is None:
            self._unshared_since_s = now_s
        elif now_s - self._unshared_since_s > METADATA_S:  # now every member knows of them, whoever is to share them
            _log.info("partitions without an owner", topic=self.topic, group=self.group, count=len(partitions))
            self._unshared_since_s = None
            self._must_share_anew = True

    async def _end(self, name: str) -> None:
        task = self._tasks.pop(name, None)
        if task is not None:
            await cancelled(task)

    def _in_trouble(self, trouble: str) -> None:
        if not self._trouble:
            _log.warning("consumer waits", topic=self.topic, group=self.group, error=trouble)
        self._trouble = trouble

    # Taking.

    async def _live(self) -> None:
        """One life of a client; returns after a handler's fault."""
        times = self._context.times
        self._client = client = self._new_client()
        try:
            async with asyncio.timeout(times.stall_s) as patience:
                await client.start()
                while not self.crew.failure:
                    self._trouble = ""
                    self._polled_s = self._context.clock.monotonic_s()
                    if self._must_share_anew:
                        await self._share_anew()
                    has_taken = await self._take()
                    if has_taken:
                        self._check_commit()
                    if has_taken or not self._is_behind:
                        patience.reschedule(asyncio.get_running_loop().time() + times.stall_s)
            await self._give_up_partitions()
        finally:
            await closed(client, leaves=self._leaves)
            if self._committing is not None:  # only now: what it waits for ended with the client
                await cancelled(self._committing)
                self._committing = None
            self._forget_partitions()

    def _new_client(self) -> Any:
        times = self._context.times
        client = reader(
            self._context.servers,
            self._context.instance,
            # The answer to a join comes when all members have joined.
            request_s=times.rebalance_s + 2.0,
            group_id=group_id(self.topic, self.group),
            group_instance_id=self._context.instance,
            auto_offset_reset="earliest",
            session_timeout_ms=round(times.session_s * 1000),
            heartbeat_interval_ms=round(times.heartbeat_s * 1000),
            rebalance_timeout_ms=round(times.rebalance_s * 1000),
            max_poll_interval_ms=60_000,
            max_poll_records=READ_COUNT_MAX,
            partition_assignment_strategy=[self._in_turn],
        )
        client.subscribe([self.topic], listener=_Rebalances(self))
        return client

    @property
    def _room(self) -> int:
        return min(self.crew.room, KEPT_COUNT_MAX - len(self._put_off) - len(self._poisoned))

    async def _take(self) -> bool:
        """Poll once; False when nothing came though there was room for it."""
        self._bring_what_was_put_off()
        room = self._room
        if room < RUNNING_COUNT_MAX:
            self._room_made.clear()
            await within(self._context.clock, POLL_S, self._room_made.wait())
            await self._client.getmany(TopicPartition(self.topic, NOBODYS))
            return True
        self._pause_what_is_far_ahead()
        found = await self._client.getmany(timeout_ms=round(POLL_S * 1000), max_records=min(READ_COUNT_MAX, room))
        for partition, records in found.items():
            self._bring(partition.partition, records)
        return bool(found)

    def _pause_what_is_far_ahead(self) -> None:
        for partition in self._client.assignment():
            progress = self.progress.get(partition.partition)
            if progress is not None and progress.is_far_ahead:
                self._client.pause(partition)
            else:
                self._client.resume(partition)

    def _bring(self, partition: int, records: Sequence[Any]) -> None:
        progress = self.progress.get(partition)
        if progress is None:
            return  # taken away while they were on their way
        for record in records:
            message = message_of(record)
            progress.unfinished[record.offset] = message
            progress.next = record.offset + 1
            # One in hand already, from before a rebalance that gave the partition back to us, is left as it is.
            self.crew.bring((partition, record.offset), message)

    def _bring_what_was_put_off(self) -> None:
        now_s = self._context.clock.monotonic_s()
        while self._put_off and self._put_off[0][0] <= now_s and self.crew.room:
            _, place = self._put_off.popleft()
            self.crew.bring(place, self.progress[place[0]].unfinished[place[1]])

    def _settle(self, place: Place, message: Message, outcome: Outcome, error: str) -> None:
        partition, offset = place
        progress = self.progress.get(partition)
        if progress is not None and offset in progress.unfinished:  # else: taken away in the meantime
            if outcome is Outcome.DONE:
                del progress.unfinished[offset]
                self._to_finish.set()
            elif outcome is Outcome.POISON:
                self._poisoned[place] = (message, error)
                self._to_finish.set()
            elif outcome is Outcome.TRANSIENT:
                due_s = self._context.clock.monotonic_s() + self._context.times.put_off_s
                self._put_off.append((due_s, place))
        self._room_made.set()

    # Finishing.

    async def _finish_all(self) -> None:
        failures = 0
        self._to_finish.set()  # where this begins anew, something was left
        while True:
            await self._to_finish.wait()
            await self._context.clock.sleep(FINISH_DELAY_S if failures == 0 else backoff_s(failures))
            self._to_finish.clear()
            try:
                await self._finish_waiting()
            except DependencyDown as down:
                failures += 1
                self._to_finish.set()
                if failures == 1:
                    _log.info("finishing waits", topic=self.topic, group=self.group, error=down.detail)
            else:
                failures = 0

    async def _finish_waiting(self) -> None:
        # One at a time: of two commits on their way at once the older could arrive last.
        async with self._finishing_now:
            await self._commit()
            if self._poisoned:
                await self._bury()
                await self._commit()

    async def _bury(self) -> None:
        while self._poisoned:
            batch = dict(islice(self._poisoned.items(), LETTERS_COUNT_MAX))
            # The letter first: a message that is finished and not among the dead letters would be gone.
            await self._context.sender.send(
                [letter_record(message, self.group, place, error) for place, (message, error) in batch.items()]
            )
            for partition, offset in batch:
                self._poisoned.pop((partition, offset), None)
                if partition in self.progress:
                    self.progress[partition].unfinished.pop(offset, None)
            self._room_made.set()

    async def _commit(self) -> None:
        await self._committed()
        due = [(n, each, each.finished) for n, each in self.progress.items() if each.finished > each.committed]
        if due:
            offsets = {TopicPartition(self.topic, n): finished for n, _, finished in due}
            self._committing = asyncio.create_task(self._client.commit(offsets))
            await self._committed()
        for _, progress, finished in due:
            progress.committed = finished

    async def _committed(self) -> None:
        """Wait for the commit that is on its way. One that takes too long stays on its way: it cannot be taken back."""
        commit = self._committing
        if commit is None:
            return
        await asyncio.wait({commit}, timeout=COMMIT_S)
        if not commit.done():
            raise DependencyDown(f"kafka did not commit within {COMMIT_S:g} s")
        self._committing = None
        if commit.cancelled():
            raise DependencyDown("the client that was to commit is gone")
        try:
            commit.result()
        except CommitFailedError:
            raise DependencyDown("the group has moved on without us") from None
        except KafkaError as error:
            raise DependencyDown(f"kafka did not commit: {error}") from error

    def _check_commit(self) -> None:
        """Raise DependencyDown when a commit stays on its way though the broker is there."""
        now_s = self._context.clock.monotonic_s()
        if self._committing is None or self._awaited is None or self._awaited[0] is not self._committing:
            self._awaited = None if self._committing is None else (self._committing, now_s)
        elif now_s - self._awaited[1] > COMMIT_STUCK_S:
            raise DependencyDown(f"a commit has been on its way for {COMMIT_STUCK_S:g} s while messages arrived")

    # Rebalances.

    def have_partitions(self, numbers: Sequence[int]) -> None:
        """These are ours from now on, as far as the group has finished them."""
        self._forget_partitions()
        self.progress = {number: Progress() for number in numbers}
        self._joined.set()

    async def give_up_partitions(self) -> None:
        """Others may have our partitions next: finish what is in hand, within a bound, and commit."""
        await self._give_up_partitions()
        self._forget_partitions()

    async def _share_anew(self) -> None:
        self._must_share_anew = False
        await self.give_up_partitions()
        self._in_turn.joins += 1
        self._client.subscribe([self.topic], listener=_Rebalances(self))

    async def _give_up_partitions(self) -> None:
        if not self.progress:
            return
        clock, drain_s = self._context.clock, self._context.times.drain_s
        self._put_off.clear()
        await within(clock, drain_s, self._hands_empty())
        try:
            await within(clock, drain_s, self._finish_waiting())
        except DependencyDown as down:
            _log.info("given up uncommitted", topic=self.topic, group=self.group, error=down.detail)

    async def _hands_empty(self) -> None:
        while self.crew.in_hand and not self.crew.failure:
            self._room_made.clear()
            await self._room_made.wait()

    def _forget_partitions(self) -> None:
        self.progress = {}
        self._put_off.clear()
        self._poisoned.clear()
        self._joined.clear()


class _Rebalances(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    def __init__(self, consumer: GroupConsumer) -> None:
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: object) -> None:  # noqa: ARG002  always all of them
        await self._consumer.give_up_partitions()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._consumer.have_partitions([partition.partition for partition in assigned])
