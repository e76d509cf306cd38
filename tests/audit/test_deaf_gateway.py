"""Two gateways of which one hears nothing of the line: for how long people wait there whom others have passed, and how
much of that the auditor takes for an offence."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from libs.common.messaging.memory import MemoryBroker, MemoryBus
from libs.common.messaging.ports import Message
from libs.common.metrics import CommonMetrics
from libs.common.testing.app_client import Answered, AppClient
from libs.common.testing.virtual import run_virtual
from libs.common.web.upstream import Reply
from libs.common.web.upstream_memory import MemoryUpstream
from loadtest.audit import clients
from loadtest.buying.history import History
from services.gateway import jobs
from services.gateway.app import create_app
from services.gateway.service import lines, queue_client
from services.gateway.settings import GatewaySettings
from tests.audit.scene import Ground
from tests.buyer import Buyer
from tests.system.one_loop import SERVICES, TICKET_KEYS, OneLoop

DEAF = "deaf"
CAPACITY = 3
TICK_S = 0.05
POLL_EVERY_S = 0.01
GIVES_UP_S = 90
OVERTAKEN = "place 5 of room 1 waits, and place 6 is inside"


class HalfDeaf(MemoryBroker):
    """A broker that brings nothing to one gateway."""

    async def on_delivery(self, instance: str, group: str | None, message: Message) -> int:
        if instance == DEAF:
            await self.clock.sleep(10 * GIVES_UP_S)
        return await super().on_delivery(instance, group, message)


@dataclass
class Slow:
    """The queue as a gateway reaches it to whom an answer about the rooms is long on its way, and old when it comes."""

    inner: MemoryUpstream
    system: OneLoop
    takes_s: float
    name: str = "queue"
    readings: int = 0

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def call(self, method: str, path: str, **how: Any) -> Reply:
        reply = await self.inner.call(method, path, **how)
        if path == "/internal/v1/rooms":
            self.readings += 1
            await self.system.clock.sleep(self.takes_s)
        return reply


@dataclass
class Gateway:
    """A `tests.buyer.Caller` of one gateway, which writes down what it sees."""

    client: AppClient
    system: OneLoop
    history: History

    async def call(
        self, method: str, path: str, json: Any = None, *, headers: Mapping[str, str] | None = None, raw: bytes = b""
    ) -> Answered:
        sent_ms = self.system.clock.now_ms()
        reply = await self.client.call(method, path, json, headers=headers, raw=raw)
        self.history.add(method, path, json, headers or {}, (sent_ms, self.system.clock.now_ms()), reply)
        return reply


@dataclass
class Seen:
    """The calls of a scene, and how long after place 6 was told to come in place 5 was still told to wait."""

    history: History = field(default_factory=History)
    waited_ms: int = 0

    @property
    def calls(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.history.lines]


@asynccontextmanager
async def _two_gateways(seen: Seen, reading_takes_s: float) -> AsyncIterator[tuple[Gateway, Gateway, Slow]]:
    system = OneLoop(room_capacity=CAPACITY, tick_s=TICK_S, claim_window_s=10 * GIVES_UP_S)
    system.broker = HalfDeaf(system.clock)
    async with system.live():
        upstreams = {name: system.upstreams[name] for name in SERVICES if name != "gateway"}
        queue = Slow(system.upstreams["queue"], system, reading_takes_s)
        app = create_app(
            GatewaySettings(ticket_keys=TICKET_KEYS),
            clock=system.clock,
            bus=MemoryBus(system.broker, DEAF, CommonMetrics(DEAF)),
            upstreams={**upstreams, "queue": queue},
            chance=lambda: 0.5,
        )
        async with AppClient(app) as deaf:
            near = Gateway(system.clients["gateway"], system, seen.history)
            yield near, Gateway(deaf, system, seen.history), queue


async def _state(buyer: Buyer) -> str:
    reply = await buyer.call("GET", "/token")
    return str(reply.json["waitingQueueWithPositionResult"]["state"])


def _overtaken(reading_takes_s: float = 0.0) -> Seen:
    """Places 1 to 3 leave just after the deaf gateway has looked at the rooms; 6 comes in, and 5 asks the deaf one."""
    seen = Seen()

    async def run() -> None:
        async with _two_gateways(seen, reading_takes_s) as (near, deaf, queue):
            clock = near.system.clock
            people = [Buyer(near, user) for user in range(1, 8)]
            for buyer in people:
                await buyer.join()
            while await _state(people[2]) != "INSIDE":
                await clock.sleep(POLL_EVERY_S)
            await clock.sleep(reading_takes_s + 1)
            known = queue.readings
            while queue.readings == known:
                await clock.sleep(POLL_EVERY_S)
            for buyer in people[:3]:
                await buyer.leave()
            while await _state(people[5]) != "INSIDE":
                await clock.sleep(POLL_EVERY_S)
            told_ms = clock.now_ms()
            people[4].caller = deaf
            while await _state(people[4]) == "WAITING" and clock.now_ms() < told_ms + GIVES_UP_S * 1000:
                seen.waited_ms = clock.now_ms() - told_ms
                await clock.sleep(POLL_EVERY_S)

    run_virtual(run())
    return seen


def test_the_auditor_allows_what_follows_from_how_often_a_gateway_reads_the_rooms() -> None:
    allowed_s = lines.READ_EVERY_S + jobs.READ_ROOMS_EVERY_S + 2 * queue_client.TIMEOUT_S
    assert allowed_s * 1000 == clients.BEHIND_MS


@pytest.mark.parametrize("reading_takes_s", [0.0, queue_client.TIMEOUT_S - 0.02])
def test_i11_a_gateway_that_hears_nothing_is_behind_for_no_longer_than_it_says(
    ground: Ground, reading_takes_s: float
) -> None:
    seen = _overtaken(reading_takes_s)
    usual_ms = clients.READ_EVERY_MS + 2 * reading_takes_s * 1000
    assert usual_ms - 200 <= seen.waited_ms <= clients.BEHIND_MS
    ground.with_lines(seen.calls)
    assert not ground.audit().names("I11", "waits, and place")


def test_i11_a_gateway_that_neither_hears_nor_reads_keeps_people_waiting(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "READ_EVERY_S", 30.0)
    seen = _overtaken()
    assert seen.waited_ms > clients.BEHIND_MS
    ground.with_lines(seen.calls)
    assert ground.audit().names("I11", OVERTAKEN)
