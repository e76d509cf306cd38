"""The contract of the event bus: one suite, passed by every adapter.

A test module subclasses `BusContract` and provides a fixture `bus_farm`: several instances on one broker, with short
times. Handlers of the suite only note what they got; what they got twice counts once, as everywhere in the product.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest

from libs.common.errors import DependencyDown, Poison, Transient
from libs.common.messaging import delivery
from libs.common.messaging.ports import EventBus, Handler, Message
from libs.common.metrics import CommonMetrics
from libs.common.testing.eventually import eventually

GROUP = "g"

IDLE_S = 0.3
"""How long the farm's broker waits before it gives a lost consumer's messages to another."""


class FarmBus(EventBus, Protocol):
    """Every adapter can let go of everything as a crash would."""

    async def abandon(self) -> None: ...


async def nothing_to_prepare(_: str) -> None:
    """For brokers on which a topic exists once it is spoken of."""


@dataclass
class BusFarm:
    """Instances on one broker: `make(instance, metrics)` builds one; the fixture stops them all after the test.

    `prepare(topic)` makes a topic for the groups of the suite; `handover_s` is how long it may take until the messages
    of a lost instance come to another.
    """

    make: Callable[[str, CommonMetrics], FarmBus]
    prepare: Callable[[str], Awaitable[None]] = nothing_to_prepare
    handover_s: float = 5.0
    made: list[FarmBus] = field(default_factory=list)
    metrics: dict[str, CommonMetrics] = field(default_factory=dict)

    async def topic(self) -> str:
        """A topic that no other test uses."""
        topic = fresh_topic()
        await self.prepare(topic)
        return topic

    async def start(self, instance: str) -> FarmBus:
        self.metrics[instance] = CommonMetrics("test")
        bus = self.make(instance, self.metrics[instance])
        self.made.append(bus)
        await bus.start()
        return bus

    async def stop(self) -> None:
        for bus in self.made:
            await bus.stop()

    def sample(self, instance: str, name: str, **labels: str) -> float | None:
        return self.metrics[instance].registry.get_sample_value(f"stagedoor_{name}", labels)


@dataclass
class Notes:
    """A handler that notes what it got."""

    got: list[str] = field(default_factory=list)

    async def __call__(self, message: Message) -> None:
        self.got.append(message.id)

    def all_of(self, messages: Sequence[Message]) -> bool:
        return {message.id for message in messages} <= set(self.got)


def fresh_topic() -> str:
    return f"test.{secrets.token_hex(6)}.v1"


def messages(topic: str, count: int, first: int = 0) -> list[Message]:
    return [
        Message(
            topic, f"k{n % 7}", f"{topic}/{n}", "Tested", "/stagedoor/test", 1_800_000_000_123 + n,
            b'{"n":%d,"at_ms":1800000000123}' % n, "00-" + "1" * 32 + "-" + "2" * 16 + "-01",
        )
        for n in range(first, first + count)
    ]  # fmt: skip


async def no_gap() -> None:
    raise AssertionError("a gap was told where there is none")


class BusContract:
    """What the services rely on."""

    async def test_a_subscriber_gets_what_was_published_unchanged(self, bus_farm: BusFarm) -> None:
        bus, topic = await bus_farm.start("one"), await bus_farm.topic()
        got: list[Message] = []

        async def handle(message: Message) -> None:
            got.append(message)

        await bus.subscribe(topic, GROUP, handle)
        sent = messages(topic, 3)
        await bus.publish(sent)
        await eventually(lambda: len(got) == 3)
        assert sorted(got, key=lambda message: message.id) == sent
        assert bus_farm.sample("one", "events_published_total", topic=topic) == 3
        await bus.ping()

    async def test_a_group_begins_with_the_first_message_there_is(self, bus_farm: BusFarm) -> None:
        bus, topic, notes = await bus_farm.start("one"), await bus_farm.topic(), Notes()
        sent = messages(topic, 5)
        await bus.publish(sent)
        await bus.subscribe(topic, GROUP, notes)
        await eventually(lambda: notes.all_of(sent))

    async def test_two_groups_each_get_everything(self, bus_farm: BusFarm) -> None:
        bus, topic = await bus_farm.start("one"), await bus_farm.topic()
        first, second = Notes(), Notes()
        await bus.subscribe(topic, "first", first)
        await bus.subscribe(topic, "second", second)
        sent = messages(topic, 20)
        await bus.publish(sent)
        await eventually(lambda: first.all_of(sent) and second.all_of(sent))

    async def test_two_instances_share_the_work(self, bus_farm: BusFarm) -> None:
        topic, notes = await bus_farm.topic(), (Notes(), Notes())
        buses = [await bus_farm.start("one"), await bus_farm.start("two")]
        for bus, note in zip(buses, notes, strict=True):
            await bus.subscribe(topic, GROUP, slowed(note))
        sent = messages(topic, 600)
        await buses[0].publish(sent)
        await eventually(lambda: len(notes[0].got) + len(notes[1].got) >= 600)
        assert {*notes[0].got, *notes[1].got} == {message.id for message in sent}
        assert notes[0].got
        assert notes[1].got

    async def test_handlers_run_side_by_side_and_bounded(self, bus_farm: BusFarm) -> None:
        bus, topic = await bus_farm.start("one"), await bus_farm.topic()
        running: set[str] = set()
        most: list[int] = []
        go = asyncio.Event()

        async def handle(message: Message) -> None:
            running.add(message.id)
            most.append(len(running))
            await go.wait()
            running.discard(message.id)

        await bus.subscribe(topic, GROUP, handle)
        await bus.publish(messages(topic, 150))
        await eventually(lambda: len(running) == delivery.RUNNING_COUNT_MAX)
        go.set()
        await eventually(lambda: len(most) >= 150)
        assert max(most) == delivery.RUNNING_COUNT_MAX

    async def test_one_that_backs_off_does_not_keep_the_others_waiting(self, bus_farm: BusFarm) -> None:
        bus, topic, notes = await bus_farm.start("one"), await bus_farm.topic(), Notes()
        sent = messages(topic, 300)

        async def handle(message: Message) -> None:
            if message.id == sent[0].id:
                raise Transient("not yet")
            await notes(message)

        await bus.subscribe(topic, GROUP, handle)
        await bus.publish(sent)
        await eventually(lambda: notes.all_of(sent[1:]), within_s=3)

    async def test_messages_of_a_killed_instance_go_to_another(self, bus_farm: BusFarm) -> None:
        topic, notes = await bus_farm.topic(), Notes()
        dying, living = await bus_farm.start("dying"), await bus_farm.start("living")
        begun = asyncio.Event()
        await dying.subscribe(topic, GROUP, stuck(begun))
        sent = messages(topic, 10)
        await dying.publish(sent)
        await begun.wait()
        await living.subscribe(topic, GROUP, notes)
        await dying.abandon()
        await eventually(lambda: notes.all_of(sent), within_s=bus_farm.handover_s)

    async def test_progress_is_committed_after_the_effect(self, bus_farm: BusFarm) -> None:
        topic, notes = await bus_farm.topic(), Notes()
        first = await bus_farm.start("one")
        begun = asyncio.Event()
        await first.subscribe(topic, GROUP, stuck(begun))
        sent = messages(topic, 1)
        await first.publish(sent)
        await begun.wait()
        await first.stop()
        again = await bus_farm.start("one")
        await again.subscribe(topic, GROUP, notes)
        await eventually(lambda: notes.all_of(sent))

    async def test_what_was_finished_does_not_come_again(self, bus_farm: BusFarm) -> None:
        topic, before, after = await bus_farm.topic(), Notes(), Notes()
        first = await bus_farm.start("one")
        await first.subscribe(topic, GROUP, before)
        sent = messages(topic, 50)
        await first.publish(sent)
        await eventually(lambda: before.all_of(sent))
        await first.stop()
        again = await bus_farm.start("one")
        await again.subscribe(topic, GROUP, after)
        late = messages(topic, 1, first=50)
        await again.publish(late)
        await eventually(lambda: after.all_of(late))
        assert after.got == [late[0].id]

    async def test_poison_goes_to_the_dead_letters_with_origin_and_error(self, bus_farm: BusFarm) -> None:
        bus, topic, notes = await bus_farm.start("one"), await bus_farm.topic(), Notes()
        sent = messages(topic, 3)
        await bus.subscribe(topic, GROUP, failing_once_each(notes, {sent[1].id: Poison("cannot be read")}))
        await bus.publish(sent)
        await eventually(lambda: notes.all_of([sent[0], sent[2]]))

        async def buried() -> bool:
            return len(await bus.dead_letters(topic, GROUP, 10)) == 1

        await eventually(buried)
        (letter,) = await bus.dead_letters(topic, GROUP, 10)
        assert letter.message == sent[1]
        assert (letter.group, letter.error) == (GROUP, "cannot be read")
        lag = {"topic": topic, "group": GROUP}
        await eventually(lambda: bus_farm.sample("one", "consumer_lag_events", **lag) == 0)
        assert bus_farm.sample("one", "dead_letters_total", **lag) == 1
        await bus.ping()

    async def test_a_dead_letter_can_be_delivered_again(self, bus_farm: BusFarm) -> None:
        bus, topic, notes = await bus_farm.start("one"), await bus_farm.topic(), Notes()
        sent = messages(topic, 1)
        await bus.subscribe(topic, GROUP, failing_once_each(notes, {sent[0].id: Poison("a fault since mended")}))
        await bus.publish(sent)

        async def buried() -> bool:
            return len(await bus.dead_letters(topic, GROUP, 10)) == 1

        await eventually(buried)
        (letter,) = await bus.dead_letters(topic, GROUP, 10)
        await bus.redeliver(letter)
        await eventually(lambda: notes.all_of(sent))
        assert await bus.dead_letters(topic, GROUP, 10) == []

    @pytest.mark.parametrize("reason", [Transient("busy"), MemoryError()], ids=["transient", "no-memory"])
    async def test_transient_is_tried_again_until_done(self, bus_farm: BusFarm, reason: Exception) -> None:
        bus, topic, notes = await bus_farm.start("one"), await bus_farm.topic(), Notes()
        sent = messages(topic, 3)
        await bus.subscribe(topic, GROUP, failing_once_each(notes, {sent[1].id: reason}))
        await bus.publish(sent)
        await eventually(lambda: notes.all_of(sent))
        assert await bus.dead_letters(topic, GROUP, 10) == []
        counted = {"topic": topic, "group": GROUP, "outcome": "transient"}
        assert bus_farm.sample("one", "event_handling_seconds_count", **counted) == 1

    async def test_transient_beyond_the_budget_of_tries_comes_again_later(
        self, bus_farm: BusFarm, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(delivery, "TRIES_COUNT_MAX", 1)
        bus, topic, notes = await bus_farm.start("one"), await bus_farm.topic(), Notes()
        sent = messages(topic, 3)
        await bus.subscribe(topic, GROUP, failing_once_each(notes, {sent[1].id: Transient("down for long")}))
        await bus.publish(sent)
        await eventually(lambda: notes.all_of([sent[0], sent[2]]))
        await bus.ping()
        await eventually(lambda: notes.all_of(sent))
        assert await bus.dead_letters(topic, GROUP, 10) == []

    async def test_any_other_error_stops_the_consumer_without_committing(self, bus_farm: BusFarm) -> None:
        topic, notes = await bus_farm.topic(), Notes()
        broken = await bus_farm.start("broken")
        sent = messages(topic, 1)
        await broken.subscribe(topic, GROUP, failing_once_each(Notes(), {sent[0].id: RuntimeError("a bug")}))
        await broken.publish(sent)
        running = {"topic": topic, "group": GROUP}
        await eventually(lambda: bus_farm.sample("broken", "consumer_running", **running) == 0)
        with pytest.raises(DependencyDown, match=rf"consumer {GROUP} of {topic} stopped: RuntimeError: a bug"):
            await broken.ping()
        mended = await bus_farm.start("mended")
        await mended.subscribe(topic, GROUP, notes)
        await eventually(lambda: notes.all_of(sent), within_s=bus_farm.handover_s)
        assert await mended.dead_letters(topic, GROUP, 10) == []

    async def test_every_listener_hears_everything_from_its_return_on(self, bus_farm: BusFarm) -> None:
        topic, notes = await bus_farm.topic(), (Notes(), Notes())
        buses = [await bus_farm.start("one"), await bus_farm.start("two")]
        await buses[0].publish(messages(topic, 5))
        for bus, note in zip(buses, notes, strict=True):
            await bus.listen(topic, note, no_gap)
        sent = messages(topic, 500, first=5)
        await buses[1].publish(sent)
        await eventually(lambda: notes[0].all_of(sent) and notes[1].all_of(sent))
        assert sorted(notes[0].got) == sorted(notes[1].got) == sorted(message.id for message in sent)

    async def test_a_listener_that_fails_is_told_of_a_gap(self, bus_farm: BusFarm) -> None:
        bus, topic, notes = await bus_farm.start("one"), await bus_farm.topic(), Notes()
        told: list[str] = []
        sent = messages(topic, 3)

        async def on_gap() -> None:
            told.append("gap")
            if len(told) == 1:
                raise DependencyDown("the truth cannot be read yet")

        await bus.listen(topic, failing_once_each(notes, {sent[1].id: RuntimeError("no")}), on_gap)
        await bus.publish(sent)
        await eventually(lambda: told == ["gap", "gap"], message="told again until the gap is closed")
        await eventually(lambda: sorted(notes.got) == [sent[0].id, sent[2].id])

    async def test_five_thousand_messages_arrive(self, bus_farm: BusFarm) -> None:
        topic, notes, heard = await bus_farm.topic(), (Notes(), Notes()), Notes()
        buses = [await bus_farm.start("one"), await bus_farm.start("two")]
        for bus, note in zip(buses, notes, strict=True):
            await bus.subscribe(topic, GROUP, note)
        await buses[0].listen(topic, heard, no_gap)
        sent = messages(topic, 5_000)
        for start in range(0, 5_000, 250):
            await buses[0].publish(sent[start : start + 250])
        await eventually(lambda: len(notes[0].got) + len(notes[1].got) >= 5_000, within_s=20)
        assert {*notes[0].got, *notes[1].got} == {message.id for message in sent}
        await eventually(lambda: heard.all_of(sent))
        labels = {"topic": topic, "group": GROUP}
        await eventually(lambda: bus_farm.sample("one", "consumer_lag_events", **labels) == 0)

    async def test_stopping_finishes_what_is_in_hand(self, bus_farm: BusFarm) -> None:
        bus, topic, notes = await bus_farm.start("one"), await bus_farm.topic(), Notes()
        await bus.subscribe(topic, GROUP, slowed(notes))
        await bus.publish(messages(topic, 1))
        await eventually(lambda: len(notes.got) == 1)
        await bus.stop()
        with_running = {"topic": topic, "group": GROUP}
        assert bus_farm.sample("one", "consumer_running", **with_running) == 0


def slowed(handler: Handler) -> Handler:
    """A handler that takes a moment, as real ones do."""

    async def handle(message: Message) -> None:
        await handler(message)
        await asyncio.sleep(0.01)

    return handle


def stuck(begun: asyncio.Event) -> Handler:
    """A handler that never ends."""

    async def handle(_: Message) -> None:
        begun.set()
        await asyncio.Event().wait()

    return handle


def failing_once_each(handler: Handler, errors: dict[str, Exception]) -> Callable[[Message], Coroutine[Any, Any, None]]:
    """A handler that raises each error once, at the message with that id."""
    left = dict(errors)

    async def handle(message: Message) -> None:
        error = left.pop(message.id, None)
        if error is not None:
            raise error
        await handler(message)

    return handle
