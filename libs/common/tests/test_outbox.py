"""The outbox relay: soon when all is well, surely when it is not. In virtual time, on memory adapters."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from libs.common.errors import DependencyDown
from libs.common.messaging.memory import MemoryBroker, MemoryBus
from libs.common.messaging.outbox import BATCH_COUNT_MAX, PUBLISHED_KEPT_MS, SCAN_AGE_MS, WAITING_COUNT_MAX, OutboxRelay
from libs.common.messaging.ports import Message
from libs.common.metrics import CommonMetrics
from libs.common.storage.memory import MemoryStore
from libs.common.testing.virtual import LoopClock, run_virtual

TOPIC = "test.outbox.v1"


class CountingStore(MemoryStore):
    """Notes each mark, because each is a write to disk; `down` refuses them."""

    def __init__(self, clock: LoopClock) -> None:
        super().__init__(clock)
        self.marks: list[int] = []
        self.down = False

    async def mark_published(self, event_ids: Sequence[str]) -> None:
        if self.down:
            raise DependencyDown("store is down")
        self.marks.append(len(event_ids))
        await super().mark_published(event_ids)


class Stage:
    """A store, a broker and a relay between them."""

    def __init__(self) -> None:
        self.clock = LoopClock()
        self.store = CountingStore(self.clock)
        self.broker = MemoryBroker(self.clock)
        self.metrics = CommonMetrics("test")
        self.relay = OutboxRelay(self.store, MemoryBus(self.broker, "one", self.metrics), self.clock, self.metrics)

    def commit(self, count: int, first: int = 0, told: bool = True) -> None:
        made = [
            Message(TOPIC, "k", f"e-{n}", "Tested", "/s", self.clock.now_ms(), b"{}")
            for n in range(first, first + count)
        ]
        self.store.outbox.update((message.id, (message, self.clock.now_ms())) for message in made)
        if told:
            self.relay.offer(made)

    @property
    def published(self) -> list[str]:
        return [message.id for _, message in self.broker.log(TOPIC).entries]

    def sample(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"stagedoor_{name}")


def staged(play: Callable[[Stage], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        stage = Stage()
        await stage.relay.start()
        await play(stage)
        await stage.relay.stop()

    run_virtual(run())


def test_what_is_offered_is_published_at_once_and_marked_soon() -> None:
    async def play(stage: Stage) -> None:
        stage.commit(3)
        for _ in range(10):  # turns of the loop, no time
            await asyncio.sleep(0)
        assert stage.published == ["e-0", "e-1", "e-2"]
        assert len(stage.store.outbox) == 3
        await asyncio.sleep(0.15)
        assert not stage.store.outbox
        await stage.relay.ping()

    staged(play)


def test_marks_of_a_tenth_of_a_second_share_a_write() -> None:
    async def play(stage: Stage) -> None:
        for n in range(50):
            stage.commit(4, first=4 * n)
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)
        assert sum(stage.store.marks) == 200
        assert len(stage.store.marks) <= 11

    staged(play)


def test_a_burst_is_published_in_bounded_batches_once_each() -> None:
    sizes: list[int] = []

    class Broker(MemoryBroker):
        async def on_publish(self, instance: str, messages: Sequence[Message]) -> Sequence[Message]:
            sizes.append(len(messages))
            return await super().on_publish(instance, messages)

    async def play() -> None:
        stage = Stage()
        stage.broker.__class__ = Broker
        await stage.relay.start()
        stage.commit(1_700)
        await asyncio.sleep(5)
        assert len(stage.published) == 1_700
        assert max(sizes) == BATCH_COUNT_MAX
        await stage.relay.stop()

    run_virtual(play())


def test_an_offer_that_does_not_fit_wakes_the_relay_all_the_same() -> None:
    async def play(stage: Stage) -> None:
        await asyncio.sleep(1)  # by now the relay waits for an offer
        stage.commit(WAITING_COUNT_MAX + 1)
        await asyncio.sleep(5)
        assert len(stage.published) == WAITING_COUNT_MAX + 1

    staged(play)


def test_a_crash_between_commit_and_publish_is_found_by_the_scan() -> None:
    async def play(stage: Stage) -> None:
        stage.commit(5, told=False)
        await asyncio.sleep(1.5)
        assert stage.published == []
        assert stage.sample("outbox_pending_events") == 5
        await asyncio.sleep(2)
        assert stage.published == [f"e-{n}" for n in range(5)]
        await asyncio.sleep(1)
        assert not stage.store.outbox
        assert (stage.sample("outbox_pending_events"), stage.sample("outbox_oldest_seconds")) == (0, 0)

    staged(play)


def test_a_broker_that_is_down_is_waited_for_without_losing_or_spinning() -> None:
    async def play(stage: Stage) -> None:
        tries: list[float] = []
        check = stage.broker.check

        def counted() -> None:
            tries.append(stage.clock.monotonic_s())
            check()

        stage.broker.check = counted  # type: ignore[method-assign]
        stage.broker.down = True
        stage.commit(WAITING_COUNT_MAX + 700)
        await asyncio.sleep(60)
        assert len(tries) < 40
        assert (stage.sample("outbox_oldest_seconds") or 0) > 50
        stage.broker.down = False
        await asyncio.sleep(20)
        assert sorted(stage.published) == sorted(f"e-{n}" for n in range(WAITING_COUNT_MAX + 700))
        assert not stage.store.outbox

    staged(play)


def test_a_store_that_takes_no_marks_is_waited_for_without_publishing_again() -> None:
    async def play(stage: Stage) -> None:
        stage.store.down = True
        stage.commit(10)
        await asyncio.sleep(30)
        assert len(stage.published) == 10
        stage.store.down = False
        await asyncio.sleep(10)
        assert stage.store.marks == [10]
        assert len(stage.published) == 10

    staged(play)


def test_a_lost_reply_publishes_twice_rather_than_never() -> None:
    async def play(stage: Stage) -> None:
        lost = [DependencyDown("reply lost")]

        async def on_published(_instance: str, _messages: Sequence[Message]) -> None:
            if lost:
                raise lost.pop()

        stage.broker.on_published = on_published  # type: ignore[method-assign,assignment]
        stage.commit(2)
        await asyncio.sleep(1)
        assert stage.published == ["e-0", "e-1", "e-0", "e-1"]
        assert not stage.store.outbox

    staged(play)


def test_stopping_publishes_and_marks_what_waits() -> None:
    async def play() -> None:
        stage = Stage()
        await stage.relay.start()
        stage.commit(BATCH_COUNT_MAX * 2)
        await stage.relay.stop()
        assert len(stage.published) == BATCH_COUNT_MAX * 2
        assert not stage.store.outbox

    run_virtual(play())


def test_stopping_with_the_broker_down_is_bounded_and_loses_nothing() -> None:
    async def play() -> None:
        stage = Stage()
        await stage.relay.start()
        stage.broker.down = True
        stage.commit(3)
        await asyncio.sleep(10)
        began_s = stage.clock.monotonic_s()
        await stage.relay.stop()
        assert stage.clock.monotonic_s() - began_s <= 2.1
        assert len(stage.store.outbox) == 3

    run_virtual(play())


def test_published_events_are_forgotten_after_a_day() -> None:
    async def play(stage: Stage) -> None:
        stage.commit(2_500)
        await asyncio.sleep(PUBLISHED_KEPT_MS / 1000 - 60)
        assert len(stage.store.published) == 2_500
        await asyncio.sleep(180)
        assert not stage.store.published

    staged(play)


@pytest.mark.parametrize("part", ["publish", "mark"])
def test_a_part_that_meets_what_it_did_not_expect_tells_it_and_goes_on(
    part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def play(stage: Stage) -> None:
        async def fails(*_: object) -> None:
            raise MemoryError("a bug")

        broken: Any = stage.broker if part == "publish" else stage.store
        name = "on_publish" if part == "publish" else "mark_published"
        setattr(broken, name, fails)
        stage.commit(3)
        await asyncio.sleep(SCAN_AGE_MS / 1000 + 3)
        with pytest.raises(DependencyDown, match=f"outbox relay: {part}: MemoryError: a bug"):
            await stage.relay.ping()
        delattr(broken, name)
        await asyncio.sleep(3)
        assert stage.published == ["e-0", "e-1", "e-2"]
        assert not stage.store.outbox
        await stage.relay.ping()

    staged(play)
    assert "a bug" in capsys.readouterr().out
