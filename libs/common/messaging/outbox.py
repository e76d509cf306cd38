"""The outbox relay: brings stored events to the broker.

Events are stored in the step that changes a document, so they exist exactly when the change does. What is left is to
publish them soon, and surely. *Soon*: whoever commits offers its messages, and one coroutine publishes whatever waits,
in batches. *Surely*: a scan finds what was stored a while ago and is not marked as published, because a crash came
between, the broker was down, or the queue was full. So an offer may be dropped and a mark may be late; both only cost
a second publish, which every handler takes.

    committed ── offer ──▶ waiting (bounded) ──▶ publish ≤ 500 ──▶ unmarked ── every 100 ms ──▶ mark ≤ 500
                  ▲                                 │ broker down: back-off, the batch waits on
    scan every 1 s: stored > 2 s ago, not marked, not in our hands
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from functools import partial
from itertools import islice

from libs.common.clock import Clock
from libs.common.errors import DependencyDown, Problem
from libs.common.jobs import Cycle
from libs.common.log import get_logger
from libs.common.messaging.delivery import backoff_s, cancelled, kept, within
from libs.common.messaging.ports import EventBus, Message
from libs.common.metrics import CommonMetrics
from libs.common.storage.ports import Store

BATCH_COUNT_MAX = 500
WAITING_COUNT_MAX = 10_000
UNMARKED_COUNT_MAX = 10_000
MARK_DELAY_S = 0.1
SCAN_PERIOD_S = 1.0
SCAN_COUNT_MAX = 2_000
SCAN_AGE_MS = 2_000
STOP_GRACE_S = 2.0

PUBLISHED_KEPT_MS = 24 * 60 * 60 * 1000
"""Published events stay this long, so that a lost broker can be told again."""

PURGE_PERIOD_S = 60.0
PURGE_COUNT_MAX = 1_000

_log = get_logger(__name__)


class OutboxRelay:
    """The relay of one process. Several may run on one store; what two publish is the same event twice."""

    def __init__(self, store: Store, bus: EventBus, clock: Clock, metrics: CommonMetrics) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._metrics = metrics
        self._waiting: deque[Message] = deque()
        self._unmarked: dict[str, None] = {}
        self._ours: set[str] = set()
        """Ids that wait, are being published or are not marked yet: a scan must not publish them again."""
        self._offered = asyncio.Event()
        self._to_mark = asyncio.Event()
        self._stopping = False
        self._is_refused = False
        self._troubles: dict[str, str] = {}
        """Parts that met what they did not expect, and what; until they get on again."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._cycles = (
            Cycle("outbox_scan", SCAN_PERIOD_S, self._scan, clock, metrics),
            Cycle("outbox_purge", PURGE_PERIOD_S, self._purge, clock, metrics),
        )

    async def start(self) -> None:
        """Begin publishing. What an earlier life left behind is found by the first scan."""
        parts = {"publish": self._publish_all, "mark": self._mark_all}
        for name, work in parts.items():
            tell = partial(self._troubles.__setitem__, name)
            self._tasks[name] = asyncio.create_task(kept(self._clock, work, tell, f"outbox: {name}"))
        for cycle in self._cycles:
            await cycle.start()

    async def stop(self) -> None:
        """Publish what waits, mark what is published, each within a bound; the rest is for the next start."""
        self._stopping = True
        for cycle in self._cycles:
            await cycle.stop()
        publish = self._tasks.pop("publish", None)
        if publish is not None:
            self._offered.set()
            await within(self._clock, STOP_GRACE_S, publish)
        mark = self._tasks.pop("mark", None)
        if mark is not None:
            await cancelled(mark)
            await within(self._clock, STOP_GRACE_S, self._mark_waiting())

    async def ping(self) -> None:
        """Return while the relay works; raise DependencyDown when one of its parts meets what it did not expect."""
        if self._troubles:
            told = "; ".join(f"{name}: {trouble}" for name, trouble in self._troubles.items())
            raise DependencyDown(f"outbox relay: {told}")

    def is_heard(self) -> bool:
        """False while the broker does not take what is published; all of it waits here."""
        return not self._is_refused

    def offer(self, messages: Sequence[Message]) -> None:
        """Publish these now: they are committed. Never waits; what does not fit is found by the scan."""
        for message in messages:
            if len(self._waiting) >= WAITING_COUNT_MAX:
                break
            if message.id not in self._ours:
                self._waiting.append(message)
                self._ours.add(message.id)
        self._offered.set()

    async def _publish_all(self) -> None:
        failures = 0
        while self._waiting or not self._stopping:
            if not self._waiting:
                self._offered.clear()
                await self._offered.wait()
                continue
            batch = [self._waiting.popleft() for _ in range(min(BATCH_COUNT_MAX, len(self._waiting)))]
            try:
                await self._bus.publish(batch)
                self._published(batch)
            except DependencyDown as down:
                failures += 1
                self._is_refused = True
                self._waiting.extendleft(reversed(batch))
                if failures == 1:
                    _log.warning("broker does not take events", error=down.detail, waiting_count=len(self._waiting))
                await self._clock.sleep(backoff_s(failures))
                continue
            except BaseException:  # nothing of it counts as published
                self._waiting.extendleft(reversed(batch))
                raise
            self._troubles.pop("publish", None)
            failures = 0
            self._is_refused = False

    def _published(self, batch: Sequence[Message]) -> None:
        for message in batch:
            if len(self._unmarked) < UNMARKED_COUNT_MAX:
                self._unmarked[message.id] = None
            else:  # the store does not take marks: published again by the scan, rather than remembered without bound
                self._ours.discard(message.id)
        self._to_mark.set()

    async def _mark_all(self) -> None:
        failures = 0
        while True:
            await self._to_mark.wait()
            # Each mark is a write to disk: those of a tenth of a second share one.
            await self._clock.sleep(MARK_DELAY_S if failures == 0 else backoff_s(failures))
            failures = 0 if await self._mark_waiting() else failures + 1
            self._troubles.pop("mark", None)

    async def _mark_waiting(self) -> bool:
        while self._unmarked:
            batch = list(islice(self._unmarked, BATCH_COUNT_MAX))
            try:
                await self._store.mark_published(batch)
            except Problem as problem:
                _log.warning("store does not take marks", error=problem.detail)
                return False
            for event_id in batch:
                del self._unmarked[event_id]
                self._ours.discard(event_id)
        self._to_mark.clear()
        return True

    async def _scan(self) -> bool:
        now_ms = self._clock.now_ms()
        count, oldest_ms = await self._store.outbox_backlog()
        self._metrics.outbox_pending.set(count)
        self._metrics.outbox_age_seconds.set(0 if oldest_ms is None else max(0, now_ms - oldest_ms) / 1000)
        if count == 0 or len(self._waiting) >= SCAN_COUNT_MAX:
            return False
        found = await self._store.unpublished(now_ms - SCAN_AGE_MS, SCAN_COUNT_MAX)
        forgotten = [message for message in found if message.id not in self._ours]
        if forgotten:
            _log.info("publishing events a crash or an outage left behind", count=len(forgotten))
            self.offer(forgotten)
        return len(forgotten) >= SCAN_COUNT_MAX

    async def _purge(self) -> bool:
        gone = await self._store.purge_published(self._clock.now_ms() - PUBLISHED_KEPT_MS, PURGE_COUNT_MAX)
        return gone >= PURGE_COUNT_MAX
