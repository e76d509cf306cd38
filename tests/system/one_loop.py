"""All five services in one event loop: memory adapters, in-memory calls, virtual time. No socket, no thread, no file.

The same apps as in production, put together by the same `create_app`s. Hours pass in seconds, and a run with the same
chance repeats exactly. A service may be crashed (everything of the process is dropped at once) and started again on
what its store kept.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from libs.common.messaging.memory import MemoryBroker, MemoryBus
from libs.common.metrics import CommonMetrics
from libs.common.storage.memory import MemoryStore
from libs.common.testing.app_client import Answered, AppClient
from libs.common.testing.virtual import LoopClock, run_virtual
from libs.common.web.upstream_memory import MemoryUpstream
from services.catalog.app import create_app as create_catalog
from services.catalog.settings import CatalogSettings
from services.gateway.app import create_app as create_gateway
from services.gateway.settings import GatewaySettings
from services.queue.app import create_app as create_queue
from services.queue.settings import QueueSettings
from services.reservation.app import create_app as create_reservation
from services.reservation.settings import ReservationSettings
from services.wallet.app import create_app as create_wallet
from services.wallet.settings import WalletSettings
from tests.buyer import STATIC_TOKEN, Buyer

TICKET_KEYS = "1:" + "5a" * 16
READY_WITHIN_S = 30
SERVICES = ("queue", "catalog", "reservation", "wallet", "gateway")


class OneLoop:
    """The product. `knobs` are settings by their environment names, given to every service that has them."""

    def __init__(self, seed: int = 1, **knobs: Any) -> None:
        self.clock = LoopClock()
        self.broker = MemoryBroker(self.clock)
        self.stores = {name: MemoryStore(self.clock) for name in SERVICES}
        self.upstreams = {name: MemoryUpstream(name) for name in SERVICES}
        self.clients: dict[str, AppClient] = {}
        self.buses: dict[str, MemoryBus] = {}
        self._chance = random.Random(seed)
        self._starts = 0
        self._knobs = {"ticket_keys": TICKET_KEYS, "static_tokens": STATIC_TOKEN, **knobs}

    @asynccontextmanager
    async def live(self) -> AsyncIterator["OneLoop"]:
        for name in SERVICES:
            await self.start(name)
        await self.until(self._is_ready, READY_WITHIN_S)
        try:
            yield self
        finally:
            for name in reversed(SERVICES):
                if name in self.clients:
                    await self.stop(name)

    async def start(self, name: str) -> None:
        """Start a service on what its store has kept."""
        self._starts += 1
        client = AppClient(self._app(name))
        self.clients[name] = await client.__aenter__()
        self.upstreams[name].app = client.app

    async def stop(self, name: str) -> None:
        """End a service politely."""
        self.upstreams[name].app = None
        await self.clients.pop(name).__aexit__(None, None, None)

    async def crash(self, name: str) -> None:
        """Drop a service as kill -9 would: unfinished events are delivered again later, nothing is handed over."""
        self.upstreams[name].app = None
        await self.buses[name].abandon()
        await self.clients.pop(name).__aexit__(None, None, None)

    async def call(
        self, method: str, path: str, json: Any = None, *, headers: Mapping[str, str] | None = None, raw: bytes = b""
    ) -> Answered:
        """A client's request to the gateway."""
        return await self.clients["gateway"].call(method, path, json, headers=headers, raw=raw)

    def buyer(self, user: int, token: str = STATIC_TOKEN) -> Buyer:
        return Buyer(self, user, token)

    async def publish_concert(self, concert: int, schedules: int, seats: int, room: int = 1) -> None:
        """Put a concert on sale: schedules 1…, each with one section of seats 1… at 10,000 points."""
        layout = [{"id": seat, "number": str(seat), "price": 10_000} for seat in range(1, seats + 1)]
        section = {"name": "A", "rows": [{"name": "1", "seats": layout}]}
        body = {
            "id": concert,
            "title": "Simulated",
            "venue": "Loop Hall",
            "room": room,
            "schedules": [
                {"id": number, "startsAt": "2027-03-01T19:00:00Z", "sections": [section]}
                for number in range(1, schedules + 1)
            ],
        }
        reply = await self.clients["catalog"].call("PUT", f"/internal/v1/concerts/{concert}", body)
        assert reply.status == 200, reply.body

    async def until(self, condition: Callable[[], Awaitable[bool]], within_s: float) -> None:
        """Let virtual time pass until a condition holds; fail when it does not within so many seconds."""
        give_up_s = self.clock.monotonic_s() + within_s
        while not await condition():
            assert self.clock.monotonic_s() < give_up_s, f"{condition.__name__} did not come true within {within_s} s"
            await self.clock.sleep(0.05)

    def _app(self, name: str) -> web.Application:
        bus = self.buses[name] = MemoryBus(self.broker, f"{name}-{self._starts}", CommonMetrics(name))
        parts: dict[str, Any] = {"clock": self.clock, "bus": bus}
        if name == "queue":
            process = f"process-{self._starts}"
            return create_queue(self._settings(QueueSettings), store=self.stores[name], process=process, **parts)
        if name == "catalog":
            parts |= {"reservation": self.upstreams["reservation"], "chance": self._chance.random}
            return create_catalog(self._settings(CatalogSettings), store=self.stores[name], **parts)
        if name == "reservation":
            parts |= {"catalog": self.upstreams["catalog"]}
            return create_reservation(self._settings(ReservationSettings), store=self.stores[name], **parts)
        if name == "wallet":
            return create_wallet(self._settings(WalletSettings), store=self.stores[name], **parts)
        upstreams = {service: self.upstreams[service] for service in SERVICES if service != "gateway"}
        parts |= {"upstreams": upstreams, "chance": self._chance.random}
        return create_gateway(self._settings(GatewaySettings), **parts)

    def _settings(self, kind: Any) -> Any:
        return kind(**{name: value for name, value in self._knobs.items() if name in kind.model_fields})

    async def _is_ready(self) -> bool:
        return (await self.call("GET", "/readyz")).status == 200


def play(scene: Callable[[OneLoop], Awaitable[None]], **knobs: Any) -> None:
    """Run a scene on a system with one concert of 3 schedules of 20 seats."""

    async def run() -> None:
        async with OneLoop(**knobs).live() as system:
            await system.publish_concert(1, schedules=3, seats=20)
            await scene(system)
            # Whatever a scene left running must not disturb the end.
            await asyncio.sleep(0)

    run_virtual(run())
