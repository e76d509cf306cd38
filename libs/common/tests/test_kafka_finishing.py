"""A consumer that fails in a way nobody expected, or whose commits never come back; without a Kafka."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from libs.common.errors import DependencyDown
from libs.common.messaging.kafka.consumer import COMMIT_STUCK_S, GroupConsumer
from libs.common.messaging.kafka.settings import Context, Times
from libs.common.messaging.ports import Message
from libs.common.metrics import CommonMetrics
from libs.common.testing.virtual import LoopClock, run_virtual


def with_consumer(play: Callable[[GroupConsumer, LoopClock], Awaitable[None]]) -> None:
    async def handle(_: Message) -> None:
        raise AssertionError("nothing comes here")

    async def run() -> None:
        clock = LoopClock()
        nobody = cast("Any", None)
        context = Context(("nowhere:1",), "1", clock, CommonMetrics("test"), nobody, nobody, Times())
        await play(GroupConsumer(context, "topic", "group", handle), clock)

    run_virtual(run())


@pytest.mark.parametrize(
    ("part", "fault"),
    [
        ("_finish_waiting", AttributeError("the client is gone")),
        ("_live", MemoryError("no more")),
        ("_live", asyncio.CancelledError()),
    ],
    ids=["finishing", "life", "cancelled"],
)
def test_a_part_that_meets_what_it_did_not_expect_tells_it_and_begins_anew(
    part: str, fault: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    async def waits(_: GroupConsumer) -> None:
        await asyncio.Event().wait()

    async def fails_once(consumer: GroupConsumer) -> None:
        tries.append(part)
        if len(tries) == 1:
            raise fault
        await waits(consumer)

    monkeypatch.setattr(GroupConsumer, "_live", waits)
    monkeypatch.setattr(GroupConsumer, part, fails_once)

    async def play(consumer: GroupConsumer, clock: LoopClock) -> None:
        await consumer.join()
        await clock.sleep(1)
        assert len(tries) == 2
        with pytest.raises(DependencyDown, match=str(fault) or "cancelled from inside"):
            consumer.check()
        await consumer.abandon()

    with_consumer(play)


def test_a_commit_that_never_comes_back_while_messages_arrive_ends_the_life_of_its_client() -> None:
    async def play(consumer: GroupConsumer, clock: LoopClock) -> None:
        async def never() -> None:
            await asyncio.Event().wait()

        consumer._check_commit()
        commits = [asyncio.create_task(never()) for _ in range(2)]
        for commit in commits:  # each has its own time
            consumer._committing = commit
            consumer._check_commit()
            await clock.sleep(COMMIT_STUCK_S - 1)
            consumer._check_commit()
        await clock.sleep(2)
        with pytest.raises(DependencyDown, match="a commit has been on its way"):
            consumer._check_commit()
        for commit in commits:
            commit.cancel()

    with_consumer(play)
