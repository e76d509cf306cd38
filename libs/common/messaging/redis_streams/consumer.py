"""One instance's share of a group's work on a topic.

    XREADGROUP (own connection, blocks) ──▶ crew, ≤ 16 handlers side by side ──▶ effect ──▶ XACK, 100 ms' worth at once
        own pending entries first, after every                    │ poison ──▶ <topic>.dlq.<group>, then XACK
        connect: a reply may have been lost                       │ put off ──▶ stays pending, claimed again when idle
    XAUTOCLAIM now and then: what a dead instance left            └ fault ──▶ reading stops, nothing is acknowledged

An entry is acknowledged only after its effect. It may come twice: when the acknowledgement was lost, or when a handler
took longer than `claim_idle_ms` while this process could not say that it is still at it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import islice

from libs.common.errors import DependencyDown
from libs.common.log import get_logger
from libs.common.messaging.delivery import RUNNING_COUNT_MAX, Crew, Outcome, backoff_s, cancelled, kept, within
from libs.common.messaging.ports import Handler, Message
from libs.common.messaging.redis_streams import entries
from libs.common.messaging.redis_streams.entries import Entry
from libs.common.messaging.redis_streams.settings import BLOCK_MS, READ_COUNT_MAX, Context
from libs.common.redis_client import RedisReplied

FINISH_DELAY_S = 0.1
"""Acknowledgements wait this long for company: one command for all of them. A crash in between repeats them."""

FINISH_SOON_COUNT = 128
"""So many do not wait."""

FINISH_COUNT_MAX = 500

UNFINISHED_COUNT_MAX = 2_000
"""Entries that are done and not acknowledged; with more, nothing new is taken until acknowledging works again."""

CLAIM_COUNT_MAX = 100
CLAIM_ROUNDS_PER_IDLE = 6

_log = get_logger(__name__)


class GroupConsumer:
    """Starts with `join`, ends with `stop`, `abandon` or a handler's fault."""

    def __init__(self, context: Context, topic: str, group: str, handler: Handler) -> None:
        self.topic, self.group = topic, group
        self.crew: Crew[bytes] = Crew(
            topic, group, handler, clock=context.clock, metrics=context.metrics, settle=self._settle
        )
        self._context = context
        self._key = entries.stream_key(topic)
        self._commands = context.commands
        self._reader = context.reader()
        self._done: dict[bytes, None] = {}
        self._poisoned: dict[bytes, tuple[Message, str]] = {}
        self._room_made = asyncio.Event()
        self._to_finish = asyncio.Event()
        self._to_finish_soon = asyncio.Event()
        self._trouble = ""
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def join(self) -> None:
        """Make sure the group exists, then work in the background. Raises DependencyDown when Redis is."""
        await self._ensure_group()
        self._tasks = {
            "read": asyncio.create_task(self._read_until_cancelled()),
            "finish": asyncio.create_task(self._kept(self._finish_all)),
            "claim": asyncio.create_task(self._kept(self._claim_all)),
        }

    async def stop(self) -> None:
        """Take nothing more, finish what runs within the grace, and hand the rest to the other instances."""
        grace_s = self._context.times.stop_grace_s
        await self._stop_taking()
        await self.crew.stop(grace_s)
        await self._end("finish")
        with suppress(DependencyDown):
            await within(self._context.clock, grace_s, self._finish_and_hand_over())

    async def abandon(self) -> None:
        """Let go of everything at once, as a crash would."""
        await self._stop_taking()
        await self.crew.abandon()
        await self._end("finish")

    def check(self) -> None:
        """Raise DependencyDown while this consumer does not get messages."""
        if self.crew.failure:
            raise DependencyDown(f"consumer {self.group} of {self.topic} stopped: {self.crew.failure}")
        for name, task in self._tasks.items():
            if task.done():
                raise DependencyDown(f"consumer {self.group} of {self.topic}: {name} has ended")
        if self._trouble:
            raise DependencyDown(f"consumer {self.group} of {self.topic}: {self._trouble}")

    async def _kept(self, work: Callable[[], Awaitable[None]]) -> None:
        await kept(self._context.clock, work, self._tell, self.topic)

    async def _read_until_cancelled(self) -> None:
        try:
            await self._kept(self._read_all)
        finally:
            await self._reader.close()

    def _tell(self, trouble: str) -> None:
        self._trouble = trouble

    async def _stop_taking(self) -> None:
        await self._end("read")
        await self._end("claim")
        await self._reader.close()

    async def _end(self, name: str) -> None:
        task = self._tasks.pop(name, None)
        if task is not None:
            await cancelled(task)

    @property
    def _room(self) -> int:
        return min(self.crew.room, UNFINISHED_COUNT_MAX - len(self._done) - len(self._poisoned))

    def _settle(self, id_: bytes, message: Message, outcome: Outcome, error: str) -> None:
        if outcome is Outcome.DONE:
            self._finish(id_)
        elif outcome is Outcome.POISON:
            self._poisoned[id_] = (message, error)
            self._to_finish.set()
        elif outcome is Outcome.FAILED and "read" in self._tasks:
            self._tasks["read"].cancel()
            self._tasks["claim"].cancel()
        self._room_made.set()

    async def _ensure_group(self) -> None:
        try:
            await self._commands.call("XGROUP", "CREATE", self._key, self.group, "0", "MKSTREAM")
        except RedisReplied as replied:
            if replied.reason != "BUSYGROUP":
                raise

    # Taking.

    async def _read_all(self) -> None:
        failures = 0
        while True:
            try:
                await self._ensure_group()
                await self._take_own_pending()
                while True:
                    self._trouble = ""
                    await self._take_new()
                    failures = 0
            except DependencyDown as down:
                failures += 1
                self._trouble = down.detail
                if failures == 1:
                    _log.warning("consumer waits", topic=self.topic, group=self.group, error=down.detail)
                await self._context.clock.sleep(backoff_s(failures))

    async def _take_own_pending(self) -> None:
        position: bytes = b"0"
        while True:
            found = await self._read(position)
            if not found:
                return
            position = found[-1].id
            self._bring(found)

    async def _take_new(self) -> None:
        self._bring(await self._read(b">"))

    async def _read(self, position: bytes) -> list[Entry]:
        # Only with room for a good batch: one entry at a time would cost a round trip each.
        while self._room < RUNNING_COUNT_MAX:
            self._room_made.clear()
            await self._room_made.wait()
        count = min(READ_COUNT_MAX, self._room)
        reply = await self._reader.call(
            "XREADGROUP", "GROUP", self.group, self._context.instance,
            "COUNT", count, "BLOCK", BLOCK_MS, "STREAMS", self._key, position,
        )  # fmt: skip
        return entries.read_entries(reply)

    def _bring(self, found: Sequence[Entry]) -> None:
        for entry in found:
            if entry.id in self._done or entry.id in self._poisoned:
                continue
            if entry.fields is None:
                self._finish(entry.id)
            else:
                self.crew.bring(entry.id, entries.message_of(self.topic, entry.fields))

    # Finishing.

    def _finish(self, id_: bytes) -> None:
        self._done[id_] = None
        self._to_finish.set()
        if len(self._done) >= FINISH_SOON_COUNT:
            self._to_finish_soon.set()

    async def _finish_all(self) -> None:
        failures = 0
        while True:
            await self._to_finish.wait()
            if failures:
                await self._context.clock.sleep(backoff_s(failures))
            else:
                await within(self._context.clock, FINISH_DELAY_S, self._to_finish_soon.wait())
            try:
                await self._finish_waiting()
            except DependencyDown:
                failures += 1
            else:
                failures = 0

    async def _finish_waiting(self) -> None:
        while self._done or self._poisoned:
            buried = dict(islice(self._poisoned.items(), FINISH_COUNT_MAX))
            # The letter first: an acknowledged entry that is not among the dead letters would be gone.
            await self._commands.call_many(
                [entries.bury_command(message, self.group, id_, error) for id_, (message, error) in buried.items()]
            )
            for id_ in buried:
                del self._poisoned[id_]
                self._done[id_] = None
            batch = list(islice(self._done, FINISH_COUNT_MAX))
            await self._commands.call("XACK", self._key, self.group, *batch)
            for id_ in batch:
                del self._done[id_]
            self._room_made.set()
        self._to_finish.clear()
        self._to_finish_soon.clear()

    async def _finish_and_hand_over(self) -> None:
        await self._finish_waiting()
        me = self._context.instance
        left = entries.pending_ids(
            await self._commands.call("XPENDING", self._key, self.group, "-", "+", FINISH_COUNT_MAX, me)
        )
        if left:
            # Made to look old, so that the others take them at their next claim instead of waiting out the idle time.
            idle_ms = self._context.times.claim_idle_ms * 2
            await self._commands.call("XCLAIM", self._key, self.group, me, 0, *left, "IDLE", idle_ms, "JUSTID")

    # Taking over.

    async def _claim_all(self) -> None:
        held: set[bytes] = set()
        while True:
            await self._context.clock.sleep(self._context.times.claim_idle_ms / CLAIM_ROUNDS_PER_IDLE / 1000)
            # What was in hand a round ago and still is takes long: say that it is being worked on.
            slow = [id_ for id_ in self.crew.in_hand if id_ in held]
            held = set(self.crew.in_hand)
            try:
                if slow:
                    me = self._context.instance
                    await self._commands.call("XCLAIM", self._key, self.group, me, 0, *slow, "JUSTID")
                await self._claim()
            except DependencyDown as down:
                _log.info("claiming waits", topic=self.topic, group=self.group, error=down.detail)

    async def _claim(self) -> None:
        cursor: bytes = b"0-0"
        while self._room > 0:
            cursor, ids = entries.claimed_ids(
                await self._commands.call(
                    "XAUTOCLAIM", self._key, self.group, self._context.instance,
                    self._context.times.claim_idle_ms, cursor, "COUNT", min(CLAIM_COUNT_MAX, self._room), "JUSTID",
                )
            )  # fmt: skip
            # 6.2 claims trimmed entries too, and without JUSTID it would not say which those are.
            found = await self._commands.call_many([("XRANGE", self._key, id_, id_) for id_ in ids])
            self._bring(
                [(entries.entries_of(reply) or [Entry(id_, None)])[0] for id_, reply in zip(ids, found, strict=True)]
            )
            if cursor == b"0-0":
                return
