"""The event bus of the running system, for an action that is a plain function."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from libs.common.errors import ConfigError, DependencyDown
from libs.common.messaging.opening import open_bus
from libs.common.messaging.ports import EventBus
from libs.common.metrics import CommonMetrics
from libs.common.system import SystemClock
from loadtest.chaos.actions import place

ACTION_S = 60.0

R = TypeVar("R")


def url_of() -> str:
    """BROKER_URL of the running system."""
    return place.address("BROKER_URL")


def is_kafka(url: str) -> bool:
    return url.startswith("kafka:")


def run(work: Coroutine[Any, Any, R]) -> R:
    """To the end, from a thread without a loop. Raises ConfigError for a broker that does not answer in time."""

    async def bounded() -> R:
        async with asyncio.timeout(ACTION_S):
            return await work

    try:
        return asyncio.run(bounded())
    except (DependencyDown, TimeoutError) as why:
        raise ConfigError(f"the broker does not do it within {ACTION_S:g} s ({type(why).__name__}: {why})") from None


def with_bus(work: Callable[[EventBus], Awaitable[R]]) -> R:
    """Do something with the bus, as a service would."""

    url = url_of()

    async def opened() -> R:
        bus = open_bus(url, "chaos", SystemClock(), CommonMetrics("chaos"))
        try:
            await bus.start()
            return await work(bus)
        finally:
            await bus.stop()

    return run(opened())
