"""What only consumers and listeners on Redis can do wrong; the rest is in the contract of the bus."""

import asyncio
from typing import Any

import pytest

from libs.common.messaging.ports import Message
from libs.common.messaging.redis_streams.bus import RedisStreamsBus
from libs.common.metrics import CommonMetrics
from libs.common.system import SystemClock
from libs.common.testing.eventually import eventually
from libs.common.testing.redis_server import RedisServer

TOPIC = "reservation.payments.v1"


@pytest.mark.redis
@pytest.mark.parametrize("fault", [ValueError("no such thing"), asyncio.CancelledError()], ids=["fault", "cancelled"])
@pytest.mark.parametrize("how", ["subscribe", "listen"])
async def test_a_reader_that_meets_what_it_did_not_expect_begins_anew(
    own_redis_server: RedisServer, how: str, fault: BaseException
) -> None:
    bus = RedisStreamsBus(own_redis_server.url, "w-1", SystemClock(), CommonMetrics("test"))
    await bus.start()
    seen: list[str] = []

    async def hear(message: Message) -> None:
        seen.append(message.id)

    async def gap() -> None: ...

    await (bus.subscribe(TOPIC, "wallet", hear) if how == "subscribe" else bus.listen(TOPIC, hear, gap))
    reader = bus._consumers[0]._reader if how == "subscribe" else bus._listeners[0]._reader
    call, faults = reader.call, [fault]

    async def fails_once(*command: Any) -> Any:
        if faults:
            raise faults.pop()
        return await call(*command)

    reader.call = fails_once  # type: ignore[method-assign]
    await bus.publish([Message(TOPIC, "r", "first", "T", "/test", 1, b"{}")])
    await eventually(lambda: faults == [])
    await bus.publish([Message(TOPIC, "r", "second", "T", "/test", 1, b"{}")])
    await eventually(lambda: seen == ["first", "second"])
    await eventually(lambda: _is_well(bus), message="nothing is the matter any more")
    await bus.stop()


async def _is_well(bus: RedisStreamsBus) -> bool:
    await bus.ping()
    return True
