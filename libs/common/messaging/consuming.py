"""The subscriptions of an app, as one part with a beginning. They end with the bus."""

from collections.abc import Sequence
from dataclasses import dataclass

from libs.common.messaging.ports import EventBus, Handler, OnGap


@dataclass(frozen=True, slots=True)
class Subscription:
    """Take `group`'s share of a topic."""

    topic: str
    group: str
    handler: Handler


@dataclass(frozen=True, slots=True)
class Listening:
    """Hear everything on a topic; `on_gap` reads the truth afresh."""

    topic: str
    handler: Handler
    on_gap: OnGap


class Consumers:
    """Starts the rows of a room's wiring, in order."""

    def __init__(self, bus: EventBus, rows: Sequence[Subscription | Listening]) -> None:
        self._bus = bus
        self._rows = rows

    async def start(self) -> None:
        for row in self._rows:
            if isinstance(row, Subscription):
                await self._bus.subscribe(row.topic, row.group, row.handler)
            else:
                await self._bus.listen(row.topic, row.handler, row.on_gap)

    async def stop(self) -> None:
        """Nothing to do: stopping the bus stops its consumers."""
