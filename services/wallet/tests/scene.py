"""Two wallets on one store and one broker, in virtual time, and somebody who hears their answers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from libs.common.events.catalogue import from_message, to_message
from libs.common.events.reservation import PaymentCancelled, PaymentRequested
from libs.common.events.topics import RESERVATION_PAYMENTS, WALLET_PAYMENTS
from libs.common.messaging.memory import MemoryBroker, MemoryBus
from libs.common.messaging.ports import Message
from libs.common.metrics import CommonMetrics
from libs.common.storage.memory import MemoryStore
from libs.common.testing.app_client import AppClient
from libs.common.testing.virtual import LoopClock, run_virtual
from services.wallet.app import create_app
from services.wallet.domain import Entry
from services.wallet.repository import LedgerRepository
from services.wallet.settings import WalletSettings

CHARGE = "/api/v1/users/charge/point"
STEP_S = 0.002


class SlowLedger(LedgerRepository):
    """A ledger that is a network away."""

    async def head(self, user: int) -> Entry | None:
        head = await super().head(user)
        await asyncio.sleep(STEP_S)
        return head

    async def append(self, entry: Entry, events: Sequence[object]) -> None:
        await asyncio.sleep(STEP_S)
        await super().append(entry, events)


class Scene:
    """Two instances of the wallet on one store and one broker, and somebody who hears their answers."""

    def __init__(self) -> None:
        self.clock = LoopClock()
        self.store = MemoryStore(self.clock)
        self.broker = MemoryBroker(self.clock)
        self.client = AppClient(self._instance("1"))
        self.other = AppClient(self._instance("2"))
        self.bus = MemoryBus(self.broker, "scene", CommonMetrics("scene"))
        self.answers: list[Any] = []

    def _instance(self, name: str) -> Any:
        settings = WalletSettings(instance=name)
        bus = MemoryBus(self.broker, name, CommonMetrics("wallet"))
        return create_app(settings, clock=self.clock, store=self.store, bus=bus)

    @asynccontextmanager
    async def live(self) -> AsyncIterator["Scene"]:
        async with self.client, self.other:
            await self.bus.start()
            await self.bus.listen(WALLET_PAYMENTS, self._hear, self._no_gap)
            yield self
            await self.bus.stop()

    async def _hear(self, message: Message) -> None:
        self.answers.append(from_message(message))

    async def _no_gap(self) -> None:
        raise AssertionError("nothing was lost here")

    async def tell(self, *events: Any, times: int = 1) -> list[Any]:
        """Publish events, asked now where they do not say when, and return all answers once the wallets are quiet."""
        asked = [replace(event, at_ms=event.at_ms or self.clock.now_ms()) for event in events]
        messages = [to_message(event, f"{event}-{n}", "test") for event in asked for n in range(times)]
        assert {message.topic for message in messages} == {RESERVATION_PAYMENTS}
        await self.bus.publish(messages)
        await self.clock.sleep(20)
        return self.answers

    async def charge(self, user: int, point: int, **headers: str) -> Any:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.call("PATCH", CHARGE, {"userId": user, "point": point}, headers=sent)

    async def balance(self, user: int) -> int:
        reply = await self.other.call("GET", f"/api/v1/users/{user}/wallet")
        assert reply.status == 200, reply.body
        amount: int = reply.json["amount"]
        return amount


def in_scene(play: Callable[[Scene], Awaitable[None]]) -> None:
    async def run() -> None:
        async with Scene().live() as scene:
            await play(scene)

    run_virtual(run())


def requested(attempt: int = 1, amount: int = 70, at_ms: int = 0) -> PaymentRequested:
    return PaymentRequested("r-1", attempt, user=7, amount=amount, at_ms=at_ms)


def cancelled(attempt: int = 1, at_ms: int = 0) -> PaymentCancelled:
    return PaymentCancelled("r-1", attempt, user=7, amount=70, at_ms=at_ms)
