"""A gateway alone: memory bus, virtual time, a queue that plays by a script, services that say what they are told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from libs.common.errors import DependencyDown
from libs.common.events.catalogue import to_message
from libs.common.events.queue import LineMoved, SessionClosed, SessionOpened
from libs.common.messaging.memory import MemoryBroker, MemoryBus
from libs.common.metrics import CommonMetrics
from libs.common.testing.app_client import Answered, AppClient
from libs.common.testing.virtual import LoopClock, run_virtual
from libs.common.tickets import TicketCodec
from libs.common.web.app import METRICS
from libs.common.web.upstream import Reply, ReplyLost, Upstream
from services.gateway.app import create_admin_app, create_app
from services.gateway.settings import GatewaySettings

KEYS = "1:" + "ab" * 16
CODEC = TicketCodec.from_settings(KEYS, 1)
JSON = {"content-type": "application/json"}

Answer = Reply | Exception | Callable[[], Awaitable[Reply]]


def reply(status: int = 200, body: Any = None, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, {**JSON, **named}, b"" if body is None else orjson.dumps(body))


def problem(status: int, code: str, **headers: str) -> Reply:
    told = reply(status, {"code": code, "detail": "because"}, **headers)
    return Reply(status, {**told.headers, "content-type": "application/problem+json"}, told.body)


def lost() -> Exception:
    return ReplyLost("The service did not answer in time.", retry_after_s=1)


def refused() -> Exception:
    return DependencyDown("The service cannot be reached.", retry_after_s=1)


@dataclass
class Sent:
    """One request as it reached a service."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    timeout_s: float


class Scripted:
    """An `Upstream` that gives the answers of its script in turn, then its `usual` one for ever."""

    def __init__(self, name: str, usual: Answer | None = None) -> None:
        self.name = name
        self.usual = usual or reply(200, {"from": name})
        self.script: list[Answer] = []
        self.sent: list[Sent] = []
        self.is_down = False

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def call(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes = b"", timeout_s: float
    ) -> Reply:
        if self.is_down:
            raise refused()
        if path == "/healthz":
            return reply()
        self.sent.append(Sent(method, path, headers or {}, body, timeout_s))
        try:
            async with asyncio.timeout(timeout_s):
                return await self.answer(method, path, body)
        except TimeoutError:
            raise lost() from None

    async def answer(self, method: str, path: str, body: bytes) -> Reply:
        given = self.script.pop(0) if self.script else self.usual
        if isinstance(given, Exception):
            raise given
        return given if isinstance(given, Reply) else await given()


class ScriptedQueue(Scripted):
    """A queue of one room that lets in whoever is at or under `watermark`, unless `states` says otherwise."""

    def __init__(self, clock: LoopClock) -> None:
        super().__init__("queue")
        self.clock = clock
        self.issued = 0
        self.watermark = 0
        self.states: dict[int, str] = {}
        self.visit_ms = 600_000
        self.answer_s = 0.0

    def ticket(self, sequence: int, room: int = 1) -> str:
        return CODEC.sign(room, sequence)

    def count(self, method: str, path: str) -> int:
        """How often an operation was called; `path` is its beginning."""
        return sum(sent.method == method and sent.path.startswith(path) for sent in self.sent)

    @property
    def claims(self) -> int:
        return self.count("POST", "/internal/v1/claims")

    @property
    def lookups(self) -> int:
        return self.count("GET", "/internal/v1/sessions/")

    async def answer(self, method: str, path: str, body: bytes) -> Reply:
        await self.clock.sleep(self.answer_s)
        if self.script:
            return await super().answer(method, path, body)
        if path == "/internal/v1/rooms":
            return reply(200, {"rooms": [self._room()]})
        if path == "/internal/v1/joins":
            self.issued += 1
            return reply(201, {"ticket": self.ticket(self.issued), "room": 1, "sequence": self.issued})
        if path == "/internal/v1/claims":
            ticket = CODEC.verify(orjson.loads(body)["ticket"])
            assert ticket is not None
            if ticket.sequence <= self.watermark:
                self.states.setdefault(ticket.sequence, "open")
        else:
            ticket = CODEC.verify(path.rsplit("/", 1)[-1])
            assert ticket is not None
            if method == "DELETE":
                self.states[ticket.sequence] = "ended"
        return self._session(ticket.text, ticket.room, ticket.sequence)

    def _room(self) -> dict[str, Any]:
        figures = {"watermark": self.watermark, "issued": self.issued, "rate": 0.0, "fence": 1, "tick": 1}
        counts = {"capacity": 5, "openSessions": 0, "unclaimed": 0, "returning": 0}
        return {"id": 1, "state": "open", **figures, **counts}

    def _session(self, ticket: str, room: int, sequence: int) -> Reply:
        state = self.states.get(sequence, "none")
        until_ms = self.clock.now_ms() + self.visit_ms if state == "open" else None
        view = {"ticket": ticket, "room": room, "sequence": sequence, "state": state, "untilMs": until_ms}
        return reply(200, view)


@dataclass
class Scene:
    """A gateway in memory and everything around it."""

    settings: GatewaySettings
    clock: LoopClock = field(default_factory=LoopClock)
    bus_type: type[MemoryBus] = MemoryBus

    def __post_init__(self) -> None:
        self.queue = ScriptedQueue(self.clock)
        self.catalog, self.reservation, self.wallet = (Scripted(n) for n in ("catalog", "reservation", "wallet"))
        self.broker = MemoryBroker(self.clock)
        self.bus = MemoryBus(self.broker, "scene", CommonMetrics("scene"))
        services: list[Upstream] = [self.queue, self.catalog, self.reservation, self.wallet]
        app = create_app(
            self.settings,
            clock=self.clock,
            bus=self.bus_type(self.broker, "gateway", CommonMetrics("gateway")),
            upstreams={service.name: service for service in services},
            chance=lambda: 0.5,
        )
        self.client = AppClient(app)
        self.admin = AppClient(create_admin_app(self.settings, app, self.clock))
        self._events = 0

    @asynccontextmanager
    async def live(self) -> AsyncIterator["Scene"]:
        async with self.client, self.admin:
            await self.clock.sleep(0.1)
            self.queue.sent.clear()
            yield self

    async def tell(self, event: LineMoved | SessionOpened | SessionClosed) -> None:
        """Publish an event and wait until it is heard."""
        self._events += 1
        await self.bus.publish([to_message(event, str(self._events), "test")])
        await self.clock.sleep(0.001)

    async def move_line(self, watermark: int, tick: int = 2, rate: float = 0.0, state: Any = "open") -> None:
        self.queue.watermark = watermark
        await self.tell(LineMoved(1, 1, tick, watermark, watermark, rate, state, self.clock.now_ms()))

    async def open_visit(self, sequence: int, visit_s: float = 600, room: int = 1) -> str:
        """Let a ticket in by event only; the ticket."""
        now_ms = self.clock.now_ms()
        ticket = CODEC.sign(room, sequence)
        await self.tell(SessionOpened(ticket, room, sequence, now_ms + round(visit_s * 1000), now_ms))
        return ticket

    async def close_visit(self, sequence: int, visit_s: float = 600) -> None:
        now_ms = self.clock.now_ms()
        until_ms = now_ms + round(visit_s * 1000)
        await self.tell(SessionClosed(CODEC.sign(1, sequence), 1, sequence, "left", until_ms, now_ms))

    async def call(self, method: str, path: str, token: str | None = None, json: Any = None, **more: Any) -> Answered:
        """A request of a client to the public port."""
        headers = {**({} if token is None else {"X-Waiting-Token": token}), **more.pop("headers", {})}
        return await self.client.call(method, f"/api/v1{path}", json, headers=headers, **more)

    async def poll(self, token: str) -> Any:
        answered = await self.call("GET", "/token", token)
        assert answered.status == 200, answered.body
        return answered.json["waitingQueueWithPositionResult"]

    def sample(self, name: str, **labels: str) -> float:
        """A figure of `/metrics`; 0 where nothing was counted."""
        registry = self.client.app[METRICS].registry
        return registry.get_sample_value(f"stagedoor_gateway_{name}", labels) or 0.0


def play(part: Callable[[Scene], Awaitable[None]], **knobs: Any) -> None:
    """Run one part in virtual time on a gateway with these settings."""

    async def run() -> None:
        settings = GatewaySettings(**{"ticket_keys": KEYS, "static_tokens": "test-token", **knobs})
        async with Scene(settings).live() as scene:
            await part(scene)

    run_virtual(run())
