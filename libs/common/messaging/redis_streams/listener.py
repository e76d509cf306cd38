"""One instance's ear on a topic: everything published after `join`, in the order of the stream, without a group.

Nothing in Redis remembers a listener. It remembers its own position, goes on from there after a reconnect, and calls
`on_gap` when it may have missed something:

- the stream vanished, or its newest id is below our position: the data was lost; all of the new stream is heard;
- Redis itself restarted: the last entries may not have reached its disk, and others have gone on writing since;
- what we have not read yet may have been trimmed: we were away, or are behind, for nearly as long as entries are kept.
  Then everything up to now is skipped, because the truth is read afresh anyway;
- the handler failed.
"""

import asyncio

from libs.common.errors import DependencyDown
from libs.common.log import get_logger
from libs.common.messaging.delivery import GapTeller, backoff_s, cancelled, error_text, kept
from libs.common.messaging.ports import Handler, OnGap
from libs.common.messaging.redis_streams import entries
from libs.common.messaging.redis_streams.entries import BEGINNING, EntryId
from libs.common.messaging.redis_streams.settings import BLOCK_MS, READ_COUNT_MAX, Context
from libs.common.redis_client import RedisReplied

RETENTION_MARGIN = 0.8
"""Part of the retention after which unread entries count as trimmed; the rest is for clocks that differ."""

_log = get_logger(__name__)


class StreamListener:
    """Starts with `join`, ends with `stop`."""

    def __init__(self, context: Context, topic: str, handler: Handler, on_gap: OnGap) -> None:
        self.topic = topic
        self._context = context
        self._key = entries.stream_key(topic)
        self._handler = handler
        self._gaps = GapTeller(topic, on_gap, context.clock, context.metrics)
        self._reader = context.reader()
        self._retention_ms = context.retention_ms(topic)
        self._position: EntryId = BEGINNING
        self._unread_since_ms = 0
        self._server = ""
        self._trouble = ""
        self._task: asyncio.Task[None] | None = None

    async def join(self) -> None:
        """Take the position; every message published after this returns is heard. Raises DependencyDown."""
        self._server, newest = await self._look()
        self._position = newest or BEGINNING
        self._unread_since_ms = self._context.clock.now_ms()
        self._task = asyncio.create_task(kept(self._context.clock, self._hear_all, self._tell, self.topic))

    async def stop(self) -> None:
        if self._task is not None:
            await cancelled(self._task)
        await self._reader.close()
        await self._gaps.stop()

    def check(self) -> None:
        """Raise DependencyDown while this listener hears nothing."""
        if self._task is not None and self._task.done():
            raise DependencyDown(f"listener of {self.topic} has ended")
        if self._trouble:
            raise DependencyDown(f"listener of {self.topic}: {self._trouble}")

    def _tell(self, trouble: str) -> None:
        self._trouble = trouble

    async def _hear_all(self) -> None:
        failures = 0
        while True:
            try:
                await self._check_for_gap()
                while True:
                    self._trouble = ""
                    if not await self._hear():
                        await self._check_for_gap()
                    failures = 0
            except DependencyDown as down:
                failures += 1
                self._trouble = down.detail
                if failures == 1:
                    _log.warning("listener waits", topic=self.topic, error=down.detail)
                await self._context.clock.sleep(backoff_s(failures))

    async def _hear(self) -> bool:
        """Read once and handle what came; False when nothing did."""
        await self._skip_what_may_be_trimmed()
        reply = await self._reader.call(
            "XREAD", "COUNT", READ_COUNT_MAX, "BLOCK", BLOCK_MS, "STREAMS", self._key, entries.id_text(self._position)
        )
        found = entries.read_entries(reply)
        if len(found) < READ_COUNT_MAX:
            self._unread_since_ms = self._context.clock.now_ms()
        else:
            self._unread_since_ms = entries.parse_id(found[-1].id)[0]
        failure = ""
        for entry in found:
            try:
                await self._handler(entries.message_of(self.topic, entry.fields or []))
            except Exception as error:  # noqa: BLE001  a listener has no dead letters: whatever it was, it is a gap
                failure = error_text(error)
            self._position = entries.parse_id(entry.id)
        if failure:
            self._gaps.tell(failure)
        return bool(found)

    async def _skip_what_may_be_trimmed(self) -> None:
        if self._context.clock.now_ms() - self._unread_since_ms <= self._retention_ms * RETENTION_MARGIN:
            return
        _, newest = await self._look()
        self._position = newest or BEGINNING
        self._unread_since_ms = self._context.clock.now_ms()
        self._gaps.tell("too far behind: unread messages may have been trimmed")

    async def _check_for_gap(self) -> None:
        server, newest = await self._look()
        if (newest or BEGINNING) < self._position:
            self._position = BEGINNING
            self._gaps.tell("the stream was lost")
        elif server != self._server:
            self._gaps.tell("redis was restarted")
        self._server = server

    async def _look(self) -> tuple[str, EntryId | None]:
        """Which run of the server answers, and the newest id of the stream (None: there is no stream)."""
        info, stream = await self._context.commands.replies([("INFO", "server"), ("XINFO", "STREAM", self._key)])
        if isinstance(info, RedisReplied):
            raise info
        run = entries.server_info(info).get("run_id", "")
        if not isinstance(stream, RedisReplied):
            return run, entries.last_generated_id(stream)
        if "no such key" in stream.detail:
            return run, None
        raise stream
