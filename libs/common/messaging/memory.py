"""The event bus in memory: for unit tests, the one-loop system and the simulation. Nothing outlives the broker.

The broker is the hub that the instances of all services share: each topic a list, each group its progress on it, and
the dead letters. It has no tasks and no time of its own: a publish pumps the messages to the groups' consumers at once,
and everything that waits waits on the `Clock` that was passed in, so a run under a virtual clock repeats exactly.

A simulation makes its faults by overriding the `on_…` methods of `MemoryBroker` and with `down` and `forget`.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from prometheus_client import Counter

from libs.common.clock import Clock
from libs.common.errors import DependencyDown
from libs.common.events.topics import LISTEN_RETENTION_MS, TOPICS
from libs.common.messaging.delivery import Crew, GapTeller, Outcome, cancelled, error_text
from libs.common.messaging.ports import DeadLetter, Handler, Message, OnGap
from libs.common.metrics import CommonMetrics

RETAINED_COUNT_MAX = 1_000_000
"""Messages a topic keeps for groups that have not finished them; beyond it publishing is refused, nothing is lost."""

LETTERS_COUNT_MAX = 10_000
"""Dead letters kept per topic and group; the oldest go first."""

TRIM_EVERY_COUNT = 512
"""Messages between two looks at what a topic may drop."""


@dataclass(slots=True)
class GroupProgress:
    """How far a group is: `next` was never delivered, `pending` is with a consumer, `returned` came back from one."""

    next: int = 0
    pending: dict[int, "_Consumer"] = field(default_factory=dict)
    returned: deque[int] = field(default_factory=deque)
    pumps: dict["_Consumer", None] = field(default_factory=dict)

    def oldest(self) -> int:
        """The position up to which everything is finished."""
        return min(self.next, *self.pending, *self.returned) if self.pending or self.returned else self.next


@dataclass(slots=True)
class TopicLog:
    """A topic: `entries[0]` has position `first`; an entry is its time of arrival (epoch ms) and the message."""

    name: str
    first: int = 0
    entries: list[tuple[int, Message]] = field(default_factory=list)
    groups: dict[str, GroupProgress] = field(default_factory=dict)
    ears: dict["_Listener", None] = field(default_factory=dict)
    untrimmed_count: int = 0

    @property
    def end(self) -> int:
        return self.first + len(self.entries)


class MemoryBroker:
    """The hub. `down` refuses every publish; `idle_s` is how long a crashed consumer's messages wait for another, and
    `stop_grace_s` how long running handlers get at a stop."""

    def __init__(self, clock: Clock, idle_s: float = 30.0, stop_grace_s: float = 3.0) -> None:
        self.clock = clock
        self.idle_s = idle_s
        self.stop_grace_s = stop_grace_s
        self.down = False
        self.logs: dict[str, TopicLog] = {}
        self.letters: dict[tuple[str, str], dict[str, DeadLetter]] = {}
        self._letter_count = 0
        self._returning: set[asyncio.Task[None]] = set()

    # What a simulation overrides: each may wait, or raise DependencyDown.

    async def on_publish(self, instance: str, messages: Sequence[Message]) -> Sequence[Message]:  # noqa: ARG002  for overriders
        """What arrives of a publish, in which order: raise to lose it on the way, repeat or shuffle to disturb it."""
        await asyncio.sleep(0)
        return messages

    async def on_published(self, instance: str, messages: Sequence[Message]) -> None:
        """The messages are stored and the reply is on its way: raise to lose it."""

    async def on_delivery(self, instance: str, group: str | None, message: Message) -> int:  # noqa: ARG002  for overriders
        """How often a message is handed over, after which wait; `group` None is a listener, and 0 a gap for it."""
        return 1

    def forget(self, topic: str) -> None:
        """Lose a topic with everything in it, as a broker without its disk would."""
        log = self.log(topic)
        log.first, log.entries = log.end, []
        for progress in log.groups.values():
            progress.next = log.first
            progress.returned.clear()
            progress.pending.clear()
        for ear in log.ears:
            ear.lost("the topic vanished")

    # What instances call.

    def check(self) -> None:
        """Raise DependencyDown while the broker is down."""
        if self.down:
            raise DependencyDown("memory broker is down", retry_after_s=1)

    def log(self, topic: str) -> TopicLog:
        """The topic's log; a declared group exists from the first message on, whether it has subscribed or not."""
        found = self.logs.get(topic)
        if found is None:
            declared = TOPICS.get(topic)
            groups = {name: GroupProgress() for name in (declared.groups if declared else ())}
            found = self.logs[topic] = TopicLog(topic, groups=groups)
        return found

    def progress(self, topic: str, group: str) -> GroupProgress:
        """The group's progress; one that was never declared begins with the first message that is still there."""
        log = self.log(topic)
        return log.groups.setdefault(group, GroupProgress(next=log.first))

    def lag(self, topic: str, group: str) -> int:
        """How many messages the group has not finished."""
        progress = self.progress(topic, group)
        return self.log(topic).end - progress.next + len(progress.pending) + len(progress.returned)

    def append(self, messages: Sequence[Message]) -> None:
        """Store messages and bring them to whoever waits for them."""
        now_ms = self.clock.now_ms()
        logs = {message.topic: self.log(message.topic) for message in messages}
        for log in logs.values():
            if len(log.entries) + len(messages) > RETAINED_COUNT_MAX:
                raise DependencyDown(f"memory broker: {log.name} is full", retry_after_s=1)
        for message in messages:
            log = logs[message.topic]
            log.entries.append((now_ms, message))
            log.untrimmed_count += 1
        for log in logs.values():
            if log.untrimmed_count >= TRIM_EVERY_COUNT:
                self._trim(log, now_ms)
            self.wake(log)

    def wake(self, log: TopicLog) -> None:
        """Let every consumer and listener of a topic take what it can."""
        for progress in log.groups.values():
            for consumer in list(progress.pumps):
                consumer.pump()
        for ear in log.ears:
            ear.wake.set()

    def take(self, consumer: "_Consumer", count_max: int) -> list[tuple[int, Message]]:
        """Hand a consumer its next messages, given-back ones first; they are pending until settled."""
        log, progress = self.log(consumer.topic), self.progress(consumer.topic, consumer.group)
        taken: list[tuple[int, Message]] = []
        while len(taken) < count_max:
            if progress.returned:
                position = progress.returned.popleft()
            elif progress.next < log.end:
                position = progress.next
                progress.next += 1
            else:
                break
            if position >= log.first:
                progress.pending[position] = consumer
                taken.append((position, log.entries[position - log.first][1]))
        return taken

    def give_back(self, owner: "_Consumer", positions: Sequence[int]) -> None:
        """Return pending messages of a consumer to its group."""
        progress = self.progress(owner.topic, owner.group)
        mine = [position for position in positions if progress.pending.get(position) is owner]
        for position in mine:
            del progress.pending[position]
        progress.returned.extend(mine)
        if mine:
            self.wake(self.log(owner.topic))

    def give_back_later(self, owner: "_Consumer", positions: Sequence[int]) -> None:
        """Return them after `idle_s`, as a broker does that cannot tell a crash from a slow handler."""

        async def wait_and_return() -> None:
            await self.clock.sleep(self.idle_s)
            self.give_back(owner, positions)

        if positions:
            task = asyncio.create_task(wait_and_return())
            self._returning.add(task)
            task.add_done_callback(self._returning.discard)

    def bury(self, group: str, message: Message, error: str) -> None:
        """Put a message aside as poison."""
        self._letter_count += 1
        letters = self.letters.setdefault((message.topic, group), {})
        letters[str(self._letter_count)] = DeadLetter(str(self._letter_count), group, error, message)
        if len(letters) > LETTERS_COUNT_MAX:
            del letters[next(iter(letters))]

    def _trim(self, log: TopicLog, now_ms: int) -> None:
        log.untrimmed_count = 0
        finished = min((progress.oldest() for progress in log.groups.values()), default=log.end)
        gone = 0
        for stored_ms, _ in log.entries[: finished - log.first]:
            if stored_ms >= now_ms - LISTEN_RETENTION_MS:
                break
            gone += 1
        del log.entries[:gone]
        log.first += gone


class _Consumer:
    """One instance's share of one group. Pumped by the broker and by its own outcomes; it has no loop of its own."""

    def __init__(
        self, broker: MemoryBroker, instance: str, topic: str, group: str, make_crew: Callable[..., Crew[int]]
    ) -> None:
        self.topic, self.group, self.instance = topic, group, instance
        self._broker = broker
        self.crew = make_crew(settle=self._settle)

    def join(self) -> None:
        progress = self._broker.progress(self.topic, self.group)
        # What an earlier life of this instance left unfinished comes first, without the wait.
        for owner in dict.fromkeys(progress.pending.values()):
            if owner.instance == self.instance and owner not in progress.pumps:
                self._broker.give_back(owner, owner.held())
        progress.pumps[self] = None
        self.pump()

    def leave(self) -> None:
        self._broker.progress(self.topic, self.group).pumps.pop(self, None)

    def held(self) -> list[int]:
        progress = self._broker.progress(self.topic, self.group)
        return [position for position, owner in progress.pending.items() if owner is self]

    def pump(self) -> None:
        if self.crew.room:
            for position, message in self._broker.take(self, self.crew.room):
                self.crew.bring(position, message)

    def _settle(self, position: int, message: Message, outcome: Outcome, error: str) -> None:
        progress = self._broker.progress(self.topic, self.group)
        if outcome is Outcome.POISON:
            self._broker.bury(self.group, message, error)
        if outcome in (Outcome.DONE, Outcome.POISON):
            progress.pending.pop(position, None)
        elif outcome is Outcome.TRANSIENT:
            self._broker.give_back_later(self, [position])
        else:
            self.leave()
            self._broker.give_back_later(self, self.held())
        self.pump()


class _Listener:
    """One instance's ear on a topic: from where it stands to the end, in order."""

    def __init__(self, broker: MemoryBroker, instance: str, topic: str, handler: Handler, gaps: GapTeller) -> None:
        self._broker = broker
        self._instance = instance
        self._log = broker.log(topic)
        self._handler = handler
        self._next = self._log.end
        self.gaps = gaps
        self.wake = asyncio.Event()
        self._log.ears[self] = None
        self.task = asyncio.create_task(self._hear())

    def lost(self, why: str) -> None:
        self._next = self._log.first
        self.gaps.tell(why)

    def leave(self) -> None:
        self._log.ears.pop(self, None)

    async def _hear(self) -> None:
        while True:
            if self._next < self._log.first:
                self.lost("trimmed past the listener")
            if self._next == self._log.end:
                self.wake.clear()
                await self.wake.wait()
                continue
            message = self._log.entries[self._next - self._log.first][1]
            self._next += 1
            copies = await self._broker.on_delivery(self._instance, None, message)
            if copies == 0:
                self.gaps.tell("lost on the way")
            for _ in range(copies):
                try:
                    await self._handler(message)
                except Exception as error:  # noqa: BLE001  a listener has no dead letters: whatever it was, it is a gap
                    self.gaps.tell(error_text(error))


class MemoryBus:
    """An `EventBus` of one process on a shared `MemoryBroker`."""

    def __init__(self, broker: MemoryBroker, instance: str, metrics: CommonMetrics) -> None:
        self._broker = broker
        self._instance = instance
        self._metrics = metrics
        self._published: dict[str, Counter] = {}
        self._consumers: list[_Consumer] = []
        self._listeners: list[_Listener] = []

    async def start(self) -> None: ...

    async def stop(self) -> None:
        for consumer in self._consumers:
            consumer.leave()
        for consumer in self._consumers:
            await consumer.crew.stop(self._broker.stop_grace_s)
            self._broker.give_back(consumer, consumer.held())
        await self._close_ears()

    async def abandon(self) -> None:
        """Let go of everything at once, as a crash would; others get the unfinished messages after `idle_s`."""
        for consumer in self._consumers:
            consumer.leave()
            await consumer.crew.abandon()
            self._broker.give_back_later(consumer, consumer.held())
        await self._close_ears()

    async def ping(self) -> None:
        self._broker.check()
        for consumer in self._consumers:
            if consumer.crew.failure:
                raise DependencyDown(f"consumer {consumer.group} of {consumer.topic} stopped: {consumer.crew.failure}")

    async def publish(self, messages: Sequence[Message]) -> None:
        self._broker.check()
        arrived = await self._broker.on_publish(self._instance, messages)
        self._broker.append(arrived)
        for message in messages:
            counter = self._published.get(message.topic)
            if counter is None:
                counter = self._published[message.topic] = self._metrics.published.labels(message.topic)
            counter.inc()
        await self._broker.on_published(self._instance, messages)

    async def subscribe(self, topic: str, group: str, handler: Handler) -> None:
        async def deliver(message: Message) -> None:
            for _ in range(max(1, await self._broker.on_delivery(self._instance, group, message))):
                await handler(message)

        def make_crew(settle: Callable[[int, Message, Outcome, str], None]) -> Crew[int]:
            return Crew(topic, group, deliver, clock=self._broker.clock, metrics=self._metrics, settle=settle)

        # Read when scraped: a lag that is kept up to date per message would cost more than the message.
        self._metrics.consumer_lag.labels(topic, group).set_function(lambda: self._broker.lag(topic, group))
        consumer = _Consumer(self._broker, self._instance, topic, group, make_crew)
        self._consumers.append(consumer)
        consumer.join()

    async def listen(self, topic: str, handler: Handler, on_gap: OnGap) -> None:
        gaps = GapTeller(topic, on_gap, self._broker.clock, self._metrics)
        self._listeners.append(_Listener(self._broker, self._instance, topic, handler, gaps))

    async def dead_letters(self, topic: str, group: str, count_max: int) -> list[DeadLetter]:
        return list(self._broker.letters.get((topic, group), {}).values())[:count_max]

    async def redeliver(self, letter: DeadLetter) -> None:
        await self.publish([letter.message])
        self._broker.letters.get((letter.message.topic, letter.group), {}).pop(letter.position, None)

    async def _close_ears(self) -> None:
        for listener in self._listeners:
            listener.leave()
            await cancelled(listener.task)
            await listener.gaps.stop()
