"""What becomes of Kafka clients whose process stood still, or that do not close. TEST_KAFKA_URL says where it is."""

import asyncio
import signal
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from libs.common.messaging.kafka.clients import Reader, closed
from libs.common.messaging.kafka.settings import Times, servers_of
from libs.common.testing.bus_contract import GROUP, Notes, messages, no_gap
from libs.common.testing.eventually import eventually
from libs.common.testing.kafka_broker import KafkaFarms
from libs.common.tests.test_kafka_bus import publishes


@pytest.mark.kafka
async def test_an_instance_that_stood_still_for_longer_than_its_session_goes_on(kafka_farms: KafkaFarms) -> None:
    # The requests on their way (rebalance_s + 2 s), the patience and the session are all over when it wakes up.
    farm = kafka_farms.farm(Times(session_s=6.0, rebalance_s=1.0, stall_s=2.0, look_period_s=0.1, stop_grace_s=0.3))
    bus, topic, notes, heard = await farm.start("one"), await farm.topic(), Notes(), Notes()
    await bus.subscribe(topic, GROUP, notes)
    await bus.listen(topic, heard, no_gap)
    before = messages(topic, 20)
    await bus.publish(before)
    await eventually(lambda: notes.all_of(before) and heard.all_of(before))
    signal.sigtimedwait((), 7.0)  # the loop stands still, as in a process that was stopped
    late = messages(topic, 20, first=20)
    await eventually(lambda: publishes(bus, late), within_s=15)
    await eventually(lambda: notes.all_of(late) and heard.all_of(late), within_s=15)
    await bus.ping()


@pytest.mark.kafka
async def test_a_client_that_does_not_close_is_left_behind(kafka_farms: KafkaFarms) -> None:
    let_go = asyncio.Event()

    class Stubborn(Reader):
        async def stop(self) -> None:
            while not let_go.is_set():
                with suppress(asyncio.CancelledError):
                    await let_go.wait()
            await super().stop()

    client = Stubborn(bootstrap_servers=list(servers_of(kafka_farms.url)))
    await client.start()
    with capture_logs() as said:
        closing = asyncio.create_task(closed(client, 0.1))
        await asyncio.wait({closing}, timeout=5)
    left_behind = closing.done()
    let_go.set()
    await closing
    assert left_behind
    assert [line["error"] for line in said] == ["stop took longer than 0.1 s"]
