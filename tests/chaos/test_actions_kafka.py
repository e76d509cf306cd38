"""What the Kafka adapter makes of brokers that are down, slow, refuse, or are not the coordinator any more."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import pytest

from libs.common.errors import DependencyDown
from libs.common.events.topics import RESERVATION_PAYMENTS
from libs.common.messaging.kafka.records import group_id
from libs.common.messaging.opening import open_bus
from libs.common.messaging.ports import EventBus, Message
from libs.common.metrics import CommonMetrics
from libs.common.system import SystemClock
from libs.common.testing.eventually import eventually
from loadtest.chaos.actions import mock_broker

_missing = mock_broker.needs()
pytestmark = [
    pytest.mark.skipif(bool(_missing), reason="; ".join(f"{name}: {why}" for name, why in _missing.items())),
    # The adapter logs what goes wrong in here, and aiokafka leaves replies that nobody waits for to the collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

BROKERS = (1, 2, 3)
RESUMED_S = 15.0
PUBLISHED_S = 60.0
GROUP = "wallet"


@pytest.fixture
def url() -> Iterator[str]:
    yield mock_broker.start(len(BROKERS))["url"]
    mock_broker.stop()


@pytest.fixture
async def bus(url: str) -> AsyncIterator[EventBus]:
    bus = open_bus(url, "wallet-1", SystemClock(), CommonMetrics("wallet"))
    await bus.start()
    yield bus
    await bus.stop()


@pytest.fixture
async def heard(bus: EventBus) -> Counter[str]:
    """How often each message reached the group's handler."""
    heard: Counter[str] = Counter()

    async def hear(message: Message) -> None:
        heard[message.id] += 1

    await bus.subscribe(RESERVATION_PAYMENTS, GROUP, hear)
    return heard


async def publish(bus: EventBus, numbers: range) -> None:
    """Insist, as the outbox does."""
    async with asyncio.timeout(PUBLISHED_S):
        for number in numbers:
            message = Message(RESERVATION_PAYMENTS, str(number), f"n/{number}", "PaymentRequested", "test", 1, b"{}")
            while True:
                try:
                    await bus.publish([message])
                    break
                except DependencyDown:
                    await asyncio.sleep(0.1)


async def arrive(heard: Counter[str], numbers: range) -> None:
    wanted = {f"n/{number}" for number in numbers}
    await eventually(lambda: wanted <= heard.keys(), RESUMED_S, f"{len(wanted - heard.keys())} messages arrive")


async def test_answers_that_are_errors_lose_nothing(bus: EventBus, heard: Counter[str]) -> None:
    mock_broker.refuse("produce", "not_enough_replicas", 3)
    mock_broker.refuse("fetch", "not_leader_for_partition", 3)
    mock_broker.refuse("offset_commit", "coordinator_load_in_progress", 3)
    await publish(bus, range(20))
    await arrive(heard, range(20))


async def test_a_coordinator_that_moves_is_followed(bus: EventBus, heard: Counter[str]) -> None:
    for broker in BROKERS:
        mock_broker.move_coordinator(group_id(RESERVATION_PAYMENTS, GROUP), broker)
        numbers = range(broker * 10, broker * 10 + 10)
        await publish(bus, numbers)
        await arrive(heard, numbers)


async def test_a_slow_broker_is_slow_for_as_long_as_it_is_told(bus: EventBus) -> None:
    loop = asyncio.get_running_loop()
    mock_broker.slow(300)
    began_s = loop.time()
    await publish(bus, range(1))
    assert loop.time() - began_s >= 0.3
    mock_broker.slow(0)
    await publish(bus, range(1, 2))
    began_s = loop.time()
    await publish(bus, range(2, 3))
    assert loop.time() - began_s < 0.3


@pytest.mark.skipif(os.environ.get("CHAOS_LONG") != "1", reason="CHAOS_LONG is not 1: it waits for what takes long")
async def test_brokers_that_are_all_down_are_told_in_time_and_lose_nothing(bus: EventBus, heard: Counter[str]) -> None:
    await publish(bus, range(10))
    for broker in BROKERS:
        mock_broker.down(broker)
    with pytest.raises(DependencyDown):
        await bus.publish([Message(RESERVATION_PAYMENTS, "x", "n/x", "PaymentRequested", "test", 1, b"{}")])
    for broker in BROKERS:
        mock_broker.up(broker)
    await publish(bus, range(10, 20))
    await arrive(heard, range(20))
