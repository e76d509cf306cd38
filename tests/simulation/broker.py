"""The broker between all instances, with everything that can happen to an event on its way."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from libs.common.clock import Clock
from libs.common.errors import DependencyDown
from libs.common.messaging.memory import MemoryBroker, MemoryBus, TopicLog, _Consumer
from libs.common.messaging.ports import Handler, Message
from libs.common.metrics import CommonMetrics
from tests.simulation.faults import STALL_S, Faults
from tests.simulation.instances import OWNER, Instance
from tests.simulation.points import AFTER_PUBLISH, BEFORE_PROGRESS, BEFORE_PUBLISH

LATE_S = (0.01, 8.0)
AGAIN_S = (0.5, 90.0)


class FaultyBroker(MemoryBroker):
    """Loses, delays, doubles, shuffles and stalls; `published` is told what was brought to it."""

    def __init__(
        self,
        clock: Clock,
        faults: Faults,
        published: Callable[[Message], None],
        errand: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        super().__init__(clock)
        self._errand = errand
        self._faults = faults
        self._published = published
        self.instances: dict[str, Instance] = {}
        self.is_stuck = False
        """While it is, messages are taken and confirmed, and go no further."""

    async def on_publish(self, instance: str, messages: Sequence[Message]) -> Sequence[Message]:
        arriving = list(await super().on_publish(instance, messages))
        if self._faults.strikes("publish_lost", instance):
            raise DependencyDown("The broker does not answer.", retry_after_s=1)
        for message in messages:
            self._published(message)
        for message in messages:
            if self._faults.strikes("event_again", message.id):
                self._errand(self._bring_again(message))
        twice = [message for message in messages if self._faults.strikes("event_twice", message.id)]
        if twice:
            arriving += twice
            self._faults.chance.shuffle(arriving)
        return arriving

    async def _bring_again(self, message: Message) -> None:
        """A late copy: it arrives when everybody has moved on."""
        await self.clock.sleep(self._faults.seconds("event_again", *AGAIN_S))
        self.append([message])

    async def on_published(self, instance: str, messages: Sequence[Message]) -> None:
        if self._faults.strikes("publish_reply_lost", instance):
            raise DependencyDown("The broker does not answer.", retry_after_s=1)

    async def on_delivery(self, instance: str, group: str | None, message: Message) -> int:
        await self.instances[instance].passes()
        if group is None and self._faults.strikes("event_missed", f"{instance} {message.id}"):
            return 0
        if self._faults.strikes("event_late", f"{instance} {message.id}"):
            await self.clock.sleep(self._faults.seconds("event_late", *LATE_S))
        if self._faults.strikes("event_stalled", f"{instance} {message.id}"):
            await self._faults.lasts(self._faults.seconds("event_stalled", *STALL_S))
        return 2 if self._faults.strikes("event_twice", f"{instance} {message.id}") else 1

    def wake(self, log: TopicLog) -> None:
        if self.is_stuck:
            return
        # Whoever publishes runs this; what a consumer begins belongs to the consumer's process.
        for progress in log.groups.values():
            for consumer in list(progress.pumps):
                self.instances[consumer.instance].context.copy().run(consumer.pump)
        for ear in log.ears:
            ear.wake.set()

    def take(self, consumer: _Consumer, count_max: int) -> list[tuple[int, Message]]:
        return [] if self.is_stuck else super().take(consumer, count_max)

    def lose_everything(self) -> None:
        """What was not delivered is gone, whoever was told that it is safe."""
        for topic in sorted(self.logs):
            self.forget(topic)
        self.is_stuck = False

    def give_back_later(self, owner: _Consumer, positions: Sequence[int]) -> None:
        # The broker keeps this time, so it must not end with the process that let go.
        token = OWNER.set(None)
        try:
            super().give_back_later(owner, positions)
        finally:
            OWNER.reset(token)


class BusDoor(MemoryBus):
    """An `EventBus`, as one instance reaches it."""

    def __init__(
        self, broker: FaultyBroker, instance: Instance, metrics: CommonMetrics, die_at: Callable[[Instance, str], None]
    ) -> None:
        super().__init__(broker, instance.name, metrics)
        broker.instances[instance.name] = instance
        self._owner = instance
        self._die_at = die_at

    async def publish(self, messages: Sequence[Message]) -> None:
        await self._owner.passes()
        self._die_at(self._owner, BEFORE_PUBLISH)
        await super().publish(messages)
        self._die_at(self._owner, AFTER_PUBLISH)
        await self._owner.passes()

    async def subscribe(self, topic: str, group: str, handler: Handler) -> None:
        async def handled(message: Message) -> None:
            await handler(message)
            self._die_at(self._owner, BEFORE_PROGRESS)
            await self._owner.passes()

        await super().subscribe(topic, group, handled)

    def crash(self) -> None:
        """Let go of everything at once; others get the unfinished messages later. For use with `Instance.kill`."""
        for consumer in self._consumers:
            consumer.leave()
            consumer.crew._stopping = True
            self._broker.give_back_later(consumer, consumer.held())
        for listener in self._listeners:
            listener.leave()
            listener.task.cancel()
