"""Two instances of the reservation on one store and one broker, a catalog, a wallet that does as it is told, and
somebody who hears everything. In memory and in virtual time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import orjson
from aiohttp import web

from libs.common.clock import Clock
from libs.common.contract.catalog import READ_SCHEDULE
from libs.common.errors import DependencyDown, Transient
from libs.common.events.catalogue import from_message, to_message
from libs.common.events.reservation import PaymentCancelled, PaymentRequested
from libs.common.events.topics import RESERVATION_OUTCOMES, RESERVATION_PAYMENTS, RESERVATION_SEATS
from libs.common.events.wallet import PaymentCompleted, PaymentDeclined, PaymentRefunded, PaymentVoided
from libs.common.messaging.memory import MemoryBroker, MemoryBus
from libs.common.messaging.ports import Message
from libs.common.metrics import CommonMetrics
from libs.common.storage.memory import MemoryStore
from libs.common.testing.app_client import Answered, AppClient
from libs.common.testing.virtual import LoopClock, run_virtual
from libs.common.web.admission import Admission
from libs.common.web.idempotency import HEADER, MADE_HEADER
from libs.common.web.upstream_memory import MemoryUpstream
from services.reservation.app import create_app
from services.reservation.settings import ReservationSettings

HOLD = "/api/v1/concert/reservation"
PAY = "/api/v1/payment"
SEATS = "/internal/v1/seats?schedule="
STATIC = Admission("test-token")

ONE_BLOCK, TWO_BLOCKS, OTHER_ROOM, UNKNOWN = 3, 4, 5, 9
"""Schedules: seats 1-20; seats 1-400 and 401-800 in two sections; seats 1-20 in room 2; none."""

PRICE = 10_000


def visitor(number: int, *, ended: bool = False, room: int = 1) -> Admission:
    return Admission(f"ticket-{number}", room, number, ended)


def catalog_app() -> web.Application:
    """A catalog that knows three schedules; `calls` counts what it was asked."""
    sections = {ONE_BLOCK: (1, [20]), TWO_BLOCKS: (1, [400, 400]), OTHER_ROOM: (2, [20])}
    app = web.Application()
    app[CALLS] = []

    async def read_schedule(request: web.Request) -> web.Response:
        schedule = int(request.match_info["id"])
        app[CALLS].append(schedule)
        if schedule not in sections:
            return web.json_response({}, status=404)
        room, sizes = sections[schedule]
        first, told = 1, []
        for size in sizes:
            told.append({"name": str(first), "seats": [{"id": first + at, "price": PRICE} for at in range(size)]})
            first += size
        body = {"id": schedule, "concertId": 1, "room": room, "startsAt": "2027-01-15T08:00:00Z", "sections": told}
        return web.Response(body=orjson.dumps(body))

    app.router.add_route(READ_SCHEDULE.method, READ_SCHEDULE.path, read_schedule)
    app.freeze()
    return app


CALLS: web.AppKey[list[int]] = web.AppKey("calls", list)


class ScriptedWallet:
    """Decides every payment attempt once, as the real one does. `delay_s` postpones its answers, `deaf` loses what it
    is asked, `mute` loses what it answers, and what it is asked about the reservations in `deaf_to` is lost, too."""

    def __init__(self, broker: MemoryBroker) -> None:
        self.balance: dict[int, int] = {}
        self.ledger: dict[tuple[str, int], str] = {}
        self.delay_s = 0.0
        self.deaf = self.mute = False
        self.deaf_to: set[str] = set()
        self.told = 0
        self.bus = MemoryBus(broker, "wallet", CommonMetrics("wallet"))

    @property
    def charged(self) -> list[tuple[str, int]]:
        """The attempts whose points are gone."""
        return [op for op, kind in self.ledger.items() if kind == "pay"]

    async def hear(self, message: Message) -> None:
        event = from_message(message)
        if self.deaf or event.reservation in self.deaf_to:
            return
        op = (event.reservation, event.attempt)
        if isinstance(event, PaymentRequested):
            enough = self.balance.get(event.user, 0) >= event.amount
            if self.ledger.setdefault(op, "new") == "new":
                self.ledger[op] = "pay" if enough else "decline"
                self.balance[event.user] = self.balance.get(event.user, 0) - (event.amount if enough else 0)
        elif isinstance(event, PaymentCancelled) and self.ledger.setdefault(op, "void") == "pay":
            self.ledger[op] = "refund"
            self.balance[event.user] += event.amount
        await asyncio.sleep(self.delay_s)
        if not self.mute:
            await self.answer(*op, user=event.user, amount=event.amount, at_ms=event.at_ms)

    async def answer(self, reservation: str, attempt: int, *, user: int, amount: int, at_ms: int) -> None:
        """Tell what was decided about an attempt, once more."""
        kind = self.ledger[reservation, attempt]
        told: Any
        if kind == "pay":
            told = PaymentCompleted(reservation, attempt, user, amount, at_ms)
        elif kind == "refund":
            told = PaymentRefunded(reservation, attempt, user, amount, at_ms)
        elif kind == "decline":
            told = PaymentDeclined(reservation, attempt, user, at_ms)
        else:
            told = PaymentVoided(reservation, attempt, user, at_ms)
        self.told += 1
        try:
            await self.bus.publish([to_message(told, f"wallet-{self.told}", "wallet")])
        except DependencyDown as down:
            raise Transient(down.detail) from down


class LossyBroker(MemoryBroker):
    """Loses every message of the topics in `lost`."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.lost: set[str] = set()

    async def on_publish(self, instance: str, messages: Sequence[Message]) -> Sequence[Message]:
        arriving = await super().on_publish(instance, messages)
        return [message for message in arriving if message.topic not in self.lost]


class Scene:
    """`alone`: the second instance is the first one. `skews_ms` sets the instances' clocks apart."""

    def __init__(self, *, alone: bool = False, skews_ms: tuple[int, int] = (0, 0), **knobs: Any) -> None:
        self.clock = LoopClock()
        self.store = MemoryStore(self.clock)
        self.broker = LossyBroker(self.clock)
        self.catalog = MemoryUpstream("catalog", catalog_app())
        self.knobs = knobs
        clocks = [LoopClock(skew_ms=skew_ms) if skew_ms else self.clock for skew_ms in skews_ms]
        self.one = self.instance("1", clocks[0])
        self.two = self.one if alone else self.instance("2", clocks[1])
        self.wallet = ScriptedWallet(self.broker)
        self.ear = MemoryBus(self.broker, "ear", CommonMetrics("ear"))
        self.heard: list[Any] = []

    def instance(self, name: str, clock: LoopClock) -> AppClient:
        settings = ReservationSettings(instance=name, **self.knobs)
        bus = MemoryBus(self.broker, name, CommonMetrics("reservation"))
        return AppClient(create_app(settings, clock=clock, store=self.store, bus=bus, catalog=self.catalog))

    @asynccontextmanager
    async def live(self) -> AsyncIterator["Scene"]:
        for topic in (RESERVATION_SEATS, RESERVATION_OUTCOMES, RESERVATION_PAYMENTS):
            await self.ear.listen(topic, self._hear, self._no_gap)
        async with AsyncExitStack() as running:
            for instance in dict.fromkeys((self.one, self.two)):
                await running.enter_async_context(instance)
            await self.wallet.bus.subscribe(RESERVATION_PAYMENTS, "wallet", self.wallet.hear)
            yield self
        await self.wallet.bus.stop()
        await self.ear.stop()

    def days_pass(self, count: int) -> None:
        """Move the wall clock on; nothing runs meanwhile."""
        self.clock._start_ms += count * 24 * 3600 * 1000

    async def _hear(self, message: Message) -> None:
        self.heard.append(from_message(message))

    async def _no_gap(self) -> None:
        raise AssertionError("nothing was lost here")

    def heard_of(self, kind: type) -> list[Any]:
        return [event for event in self.heard if isinstance(event, kind)]

    async def hold(
        self,
        user: int = 7,
        seats: tuple[int, ...] = (1, 2),
        key: str = "",
        *,
        at: AppClient | None = None,
        by: Admission | None = None,
        schedule: int = ONE_BLOCK,
        made: bool = False,
    ) -> Answered:
        body = {"userId": user, "concertScheduleId": schedule, "seatIds": list(seats), "dateTime": "whenever"}
        return await self.send("POST", HOLD, body, key, at=at, by=by or visitor(user), made=made)

    async def held(self, user: int = 7, seats: tuple[int, ...] = (1, 2), **more: Any) -> str:
        """The id of a new reservation."""
        reply = await self.hold(user, seats, **more)
        assert reply.status == 201, reply.body
        return str(reply.json["id"])

    async def pay(
        self, id_: str, key: str = "", user: int = 7, *, at: AppClient | None = None, by: Admission | None = None
    ) -> Answered:
        body = {"userId": user, "reservationId": id_, "token": "whatever"}
        return await self.send("POST", PAY, body, key, at=at, by=by or visitor(user))

    async def refund(self, id_: str, *, at: AppClient | None = None) -> Answered:
        order = {"who": "operator", "why": "the concert was moved"}
        return await (at or self.one).call("POST", f"/internal/v1/reservations/{id_}/refund", order)

    async def reservation(self, id_: str, by: Admission) -> Any:
        reply = await self.send("GET", f"{HOLD}/{id_}", None, at=self.two, by=by)
        assert reply.status == 200, reply.body
        return reply.json

    async def status(self, id_: str, user: int = 7) -> str:
        return str((await self.reservation(id_, visitor(user)))["status"])

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        key: str = "",
        *,
        at: AppClient | None = None,
        by: Admission,
        made: bool = False,
    ) -> Answered:
        """`made`: the key is the gateway's own, who retries with it."""
        headers = {**by.headers(), **({HEADER: key} if key else {}), **({MADE_HEADER: "1"} if made else {})}
        return await (at or self.one).call(method, path, body, headers=headers)

    def stored(self, collection: str) -> dict[str, Any]:
        """The bodies of a collection by id, to be read only."""
        return {id_: body for id_, (_, body) in self.store._collections[collection]._documents.items()}

    async def rewrite(self, collection: str, id_: str, **fields: Any) -> None:
        """Change a document behind the service's back, as somebody who died at once would have."""
        version, body = self.store._collections[collection]._documents[id_]
        await self.store._collections[collection].swap(id_, version, {**body, **fields}, [])

    async def seats(self, schedule: int = ONE_BLOCK) -> dict[int, tuple[int, str]]:
        """Each touched seat's `n` and state."""
        reply = await self.two.call("GET", f"{SEATS}{schedule}")
        return {seat: (n, state) for seat, n, state in reply.json["seats"]}

    async def states(self, schedule: int = ONE_BLOCK) -> list[str]:
        return sorted({state for _, state in (await self.seats(schedule)).values()})


def in_scene(play: Callable[[Scene], Awaitable[None]], **knobs: Any) -> None:
    async def run() -> None:
        async with Scene(**knobs).live() as scene:
            await play(scene)

    run_virtual(run())
