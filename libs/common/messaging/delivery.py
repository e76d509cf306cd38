"""What happens to a message once it has arrived: the same on every broker, so it is written once.

The exception's type is the routing decision. Nothing or `Poison` ends a message. `Transient`, or that there was no
memory, is tried again in place with a bounded back-off, and after a budget of tries the message goes back to the
broker, to come again later: it is never given up. Anything else is a fault of ours: no further message is started, and
nothing is committed for this one.

Adapters bring messages to a `Crew` and are told each outcome through `settle`, after the effect and never before.
"""

import asyncio
import enum
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from libs.common.clock import Clock
from libs.common.errors import Poison, Transient
from libs.common.log import get_logger
from libs.common.messaging.ports import Handler, Message, OnGap
from libs.common.metrics import CommonMetrics

RUNNING_COUNT_MAX = 16
"""Handlers of one subscription that run side by side. Who works through what an outage has left shares the store with
people who wait: with 64, nine times as many of their requests ran out of time (docs/proof.md)."""

IN_HAND_COUNT_MAX = 200
"""Messages one subscription holds at a time, started or not. One that backs off does not keep the others waiting."""

TRIES_COUNT_MAX = 10
"""Tries of one delivery; with the back-off below about 9 s, well under the 30 s after which others may claim it."""

BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 2.0
"""Whoever waits for a broker or a store that was away is back this soon after it is."""

_log = get_logger(__name__)

Token = TypeVar("Token")


class Outcome(enum.Enum):
    """How a delivery ended; the values are the `outcome` label of the handling metric."""

    DONE = "done"
    POISON = "poison"
    TRANSIENT = "transient"
    FAILED = "failed"


Settle = Callable[[Token, Message, Outcome, str], None]
"""`settle(token, message, outcome, error)`: called once per delivery, in the loop, and must not raise or block."""


def backoff_s(tries: int) -> float:
    """Seconds to wait after `tries` failures in a row: 0.05, 0.1, 0.2 … 2."""
    return min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(tries - 1, 16))


def error_text(error: BaseException) -> str:
    """`Type: text`, short enough for a header."""
    return f"{type(error).__name__}: {error}"[:500]


async def within(clock: Clock, seconds: float, work: Awaitable[object]) -> bool:
    """Await `work` for at most `seconds` of this clock, then cancel it. True when it ended by itself.

    Raises what `work` raises.
    """
    task = asyncio.ensure_future(work)
    limit = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait({task, limit}, return_when=asyncio.FIRST_COMPLETED)
        ended = task.done()
    finally:
        await cancelled(task, limit)
    if ended:
        task.result()
    return ended


async def cancelled(*tasks: "asyncio.Future[object] | asyncio.Future[None]") -> None:
    """Cancel tasks and wait until they are gone; what they raise is not of interest any more."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def kept(clock: Clock, work: Callable[[], Awaitable[None]], tell: Callable[[str], None], what: str) -> None:
    """Keep a background task at work until it is cancelled or done: what it did not expect is logged and told, and it
    begins anew. One that ended would be missed by nobody but those who wait for it."""
    failures = 0
    while True:
        try:
            await work()
        except asyncio.CancelledError:
            if (ours := asyncio.current_task()) is None or ours.cancelling():
                raise
            trouble = "cancelled from inside"
            _log.warning("begins anew", what=what, error=trouble)
        except Exception as fault:  # noqa: BLE001  not swallowed: it is logged, and ping() tells
            trouble = error_text(fault)
            _log.exception("begins anew", what=what)
        else:
            return
        failures += 1
        tell(trouble)
        await clock.sleep(backoff_s(failures))


class Crew(Generic[Token]):
    """The handlers of one subscription at work. `failure` holds what stopped it, as text, or stays empty."""

    def __init__(
        self,
        topic: str,
        group: str,
        handler: Handler,
        *,
        clock: Clock,
        metrics: CommonMetrics,
        settle: Settle[Token],
    ) -> None:
        self.topic, self.group = topic, group
        self.failure = ""
        self.in_hand: dict[Token, Message] = {}
        self._handler = handler
        self._clock = clock
        self._settle = settle
        self._ready: deque[Token] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._working_count = 0
        """Workers that will look for another message; fewer than tasks, which take a turn of the loop to go."""
        self._resting: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._seconds = {outcome: metrics.handled_seconds.labels(topic, group, outcome.value) for outcome in Outcome}
        self._dead = metrics.dead_letters.labels(topic, group)
        self._running = metrics.consumer_running.labels(topic, group)
        self._running.set(1)

    @property
    def room(self) -> int:
        """How many more messages may be brought; none after a failure or a stop."""
        return 0 if self._stopping or self.failure else IN_HAND_COUNT_MAX - len(self.in_hand)

    def bring(self, token: Token, message: Message) -> None:
        """Handle a message; `token` is how the adapter knows it. One that is in hand already is left as it is."""
        if token in self.in_hand:
            return
        self.in_hand[token] = message
        self._ready.append(token)
        if self._working_count < RUNNING_COUNT_MAX:
            # A worker goes on until nothing is ready, so that a burst costs few tasks.
            self._working_count += 1
            worker = asyncio.create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def stop(self, grace_s: float) -> None:
        """Start nothing more, let what runs finish within `grace_s`, drop the rest unsettled."""
        self._stopping = True
        for worker in list(self._resting):
            worker.cancel()
        if self._workers:
            await within(self._clock, grace_s, asyncio.gather(*self._workers, return_exceptions=True))
        await self.abandon()

    async def abandon(self) -> None:
        """Drop everything at once, as a crash would."""
        self._stopping = True
        self._running.set(0)
        await cancelled(*self._workers)

    async def _work(self) -> None:
        try:
            while self._ready and not self._stopping and not self.failure:
                token = self._ready.popleft()
                message = self.in_hand[token]
                outcome, error = await self._handle(message)
                self._ended(token, message, outcome, error)
        finally:
            self._working_count -= 1

    def _ended(self, token: Token, message: Message, outcome: Outcome, error: str) -> None:
        if outcome is Outcome.FAILED and not self.failure:
            self.failure = error
            self._running.set(0)
        if outcome is Outcome.POISON:
            self._dead.inc()
            _log.warning("dead letter", topic=self.topic, group=self.group, id=message.id, error=error)
        del self.in_hand[token]
        self._settle(token, message, outcome, error)

    async def _handle(self, message: Message) -> tuple[Outcome, str]:
        tries = 0
        while True:
            tries += 1
            outcome, error = await self._try(message)
            if outcome is not Outcome.TRANSIENT:
                return outcome, error
            if tries >= TRIES_COUNT_MAX or self._stopping:
                _log.warning("event put off", topic=self.topic, group=self.group, id=message.id, error=error)
                return outcome, error
            await self._rest(backoff_s(tries))

    async def _try(self, message: Message) -> tuple[Outcome, str]:
        began_s = self._clock.monotonic_s()
        outcome, error = Outcome.DONE, ""
        try:
            await self._handler(message)
        except Poison as poison:
            outcome, error = Outcome.POISON, str(poison)
        except Transient as transient:
            outcome, error = Outcome.TRANSIENT, str(transient)
        except MemoryError as scarce:  # the handler is not at fault, and others may let go of some
            outcome, error = Outcome.TRANSIENT, error_text(scarce)
        except asyncio.CancelledError:
            if self._stopping:
                raise
            outcome, error = Outcome.FAILED, "the handler was cancelled from inside"
        except Exception as fault:  # noqa: BLE001  not swallowed: it stops this consumer uncommitted, and ping() tells
            outcome, error = Outcome.FAILED, error_text(fault)
            _log.exception("consumer stopped", topic=self.topic, group=self.group, id=message.id)
        self._seconds[outcome].observe(self._clock.monotonic_s() - began_s)
        return outcome, error

    async def _rest(self, seconds: float) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a crew works in tasks only")
        self._resting.add(task)
        try:
            await self._clock.sleep(seconds)
        finally:
            self._resting.discard(task)


class GapTeller:
    """Awaits a listener's `on_gap` beside its messages, one call at a time, again and again until one succeeds."""

    def __init__(self, topic: str, on_gap: OnGap, clock: Clock, metrics: CommonMetrics) -> None:
        self._topic = topic
        self._on_gap = on_gap
        self._clock = clock
        self._count = metrics.listen_gaps.labels(topic)
        self._owed = False
        self._telling: asyncio.Task[None] | None = None

    def tell(self, why: str) -> None:
        """Something may have been missed. A gap found while another is being told is told afterwards."""
        _log.warning("listener may have missed events", topic=self._topic, why=why)
        self._count.inc()
        self._owed = True
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell_all())

    async def stop(self) -> None:
        if self._telling is not None:
            await cancelled(self._telling)

    async def _tell_all(self) -> None:
        tries = 0
        while self._owed:
            self._owed = False
            try:
                await self._on_gap()
            except Exception as error:  # noqa: BLE001  whatever kept the truth from being read: it has to be read
                tries += 1
                self._owed = True
                _log.warning("gap not closed yet", topic=self._topic, error=error_text(error))
                await self._clock.sleep(backoff_s(tries))
