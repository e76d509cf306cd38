"""Builders and fakes: venues, two catalogs on one store and broker, a reservation service, a shared cache."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import orjson

from libs.common.contract.operation import Operation
from libs.common.errors import DependencyDown
from libs.common.events.catalogue import to_message
from libs.common.events.reservation import SeatAt, SeatsHeld, SeatsReleased, SeatsSold
from libs.common.messaging.memory import MemoryBroker, MemoryBus
from libs.common.metrics import CommonMetrics
from libs.common.storage.memory import MemoryStore
from libs.common.testing.app_client import Answered, AppClient
from libs.common.testing.virtual import START_MS, LoopClock, run_virtual
from libs.common.web.admission import Admission
from libs.common.web.upstream import Reply
from services.catalog.app import create_app
from services.catalog.repository import SCHEDULES
from services.catalog.settings import CatalogSettings

INSIDE = Admission("ticket-1", room=1, sequence=1).headers()
STARTS_AT = "2027-03-01T19:00:00.000Z"


def schedule_body(schedule: int = 1, seats: int = 3, price: int = 10_000, starts_at: str = STARTS_AT) -> dict[str, Any]:
    """A schedule of one row; seat ids and numbers count from 1, each seat costs 1 more than the one before."""
    row = [{"id": seat, "number": str(seat), "price": price + seat - 1} for seat in range(1, seats + 1)]
    sections = [{"name": "A", "rows": [{"name": "1", "seats": row}]}]
    return {"id": schedule, "startsAt": starts_at, "sections": sections}


def concert_body(*schedules: dict[str, Any], concert: int = 1, room: int = 1) -> dict[str, Any]:
    wanted = list(schedules) or [schedule_body()]
    return {"id": concert, "title": "Live", "venue": "Hall", "room": room, "schedules": wanted}


def held(*seats: int, n: int = 1, schedule: int = 1) -> SeatsHeld:
    return SeatsHeld(schedule, "r-1", tuple(SeatAt(seat, n) for seat in seats), START_MS)


def released(*seats: int, n: int = 2, schedule: int = 1) -> SeatsReleased:
    return SeatsReleased(schedule, "r-1", tuple(SeatAt(seat, n) for seat in seats), START_MS)


def sold(*seats: int, n: int = 1, schedule: int = 1) -> SeatsSold:
    return SeatsSold(schedule, "r-1", tuple(SeatAt(seat, n) for seat in seats), START_MS)


def fits(reply: Answered, operation: Operation) -> bool:
    """Whether an answer is what the contract says, to the field."""
    assert operation.answer is not None
    model = operation.answer.model_validate_json(reply.body)
    return bool(model.model_dump(mode="json", by_alias=True) == reply.json)


class FakeReservation:
    """The reservation service's account of seats, by schedule; `down` refuses, `asked` are the schedules in turn, for
    those that are `broken` it answers 503.

    `reply` is what it answers instead, where that is given.
    """

    name = "reservation"

    def __init__(self) -> None:
        self.seats: dict[int, list[tuple[int, int, str]]] = {}
        self.down = False
        self.broken: set[int] = set()
        self.reply: Reply | None = None
        self.asked: list[int] = []

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def call(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes = b"", timeout_s: float
    ) -> Reply:
        await asyncio.sleep(0.001)
        if self.down:
            raise DependencyDown("The reservation service cannot be reached.")
        schedule = int(path.removeprefix("/internal/v1/seats?schedule="))
        self.asked.append(schedule)
        if self.reply is not None:
            return self.reply
        if schedule in self.broken:
            return Reply(503, {}, b"{}")
        told = {"schedule": schedule, "seats": self.seats.get(schedule, [])}
        return Reply(200, {}, orjson.dumps(told))


class MemoryShared:
    """A `SharedCache` in a dictionary; `delay_s` makes it slow, `down` makes it refuse."""

    def __init__(self) -> None:
        self.copies: dict[str, bytes] = {}
        self.delay_s = 0.0
        self.down = False

    async def get(self, key: str) -> bytes | None:
        await self._turn()
        return self.copies.get(key)

    async def put(self, key: str, value: bytes, ttl_s: float) -> None:
        await self._turn()
        self.copies[key] = value

    async def drop(self, key: str) -> None:
        await self._turn()
        self.copies.pop(key, None)

    async def _turn(self) -> None:
        await asyncio.sleep(self.delay_s)
        if self.down:
            raise DependencyDown("redis is down")


class FrailStore(MemoryStore):
    """A memory store that refuses all while `down`, and writes after `writes_left` more; `loads` counts reads."""

    def __init__(self, clock: LoopClock) -> None:
        super().__init__(clock)
        self.down = False
        self.writes_left: int | None = None
        self.loads = 0

    def collection(self, declared: Any) -> Any:
        return _FrailCollection(self, super().collection(declared))


class _FrailCollection:
    def __init__(self, store: FrailStore, stored: Any) -> None:
        self._store = store
        self._stored = stored

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stored, name)

    async def load(self, id_: str) -> Any:
        self._store.loads += 1
        self._check()
        return await self._stored.load(id_)

    async def find(self, *asked: Any) -> Any:
        self._check()
        return await self._stored.find(*asked)

    async def swap(self, *written: Any) -> None:
        self._check()
        if self._store.writes_left is not None:
            if self._store.writes_left == 0:
                raise DependencyDown("the process ended here")
            self._store.writes_left -= 1
        await self._stored.swap(*written)

    def _check(self) -> None:
        if self._store.down:
            raise DependencyDown("the store is down")


class Scene:
    """Two copies of the catalog, what they stand on, and somebody who tells of seats."""

    def __init__(self, **settings: Any) -> None:
        self.clock = LoopClock()
        self.store = FrailStore(self.clock)
        self.broker = MemoryBroker(self.clock)
        self.reservation = FakeReservation()
        self.shared = MemoryShared()
        self.client = AppClient(self.instance("1", **settings))
        self.other = AppClient(self.instance("2", **settings))
        self._told = 0

    def instance(self, name: str, **settings: Any) -> Any:
        """Another copy of the catalog's app, not yet started."""
        bus = MemoryBus(self.broker, name, CommonMetrics("catalog"))
        return create_app(
            CatalogSettings(instance=name, **settings),
            clock=self.clock,
            store=self.store,
            bus=bus,
            reservation=self.reservation,
            shared=self.shared,
            chance=lambda: 0.5,
        )

    @asynccontextmanager
    async def live(self) -> AsyncIterator["Scene"]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.client)
            await stack.enter_async_context(self.other)
            await self.clock.sleep(1)
            yield self

    async def publish(self, body: dict[str, Any] | None = None, concert: int | None = None) -> Answered:
        draft = body or concert_body()
        return await self.client.call("PUT", f"/internal/v1/concerts/{concert or draft['id']}", draft)

    async def rewrite(self, schedule: int, body: dict[str, Any]) -> dict[str, Any]:
        """Put something else in the place of a schedule's document and its shared copy; what was stored."""
        documents = self.store.collection(SCHEDULES)
        found = await documents.load(str(schedule))
        await documents.swap(str(schedule), found.version, body, [])
        self.shared.copies.pop(f"stagedoor:catalog:v1:schedule:{schedule}", None)
        was: dict[str, Any] = found.body
        return was

    async def tell(self, *events: Any) -> None:
        """Publish events about seats; they are heard before this returns."""
        for event in events:
            self._told += 1
            bus = MemoryBus(self.broker, "scene", CommonMetrics("scene"))
            await bus.publish([to_message(event, f"event-{self._told}", "test")])
        await self.clock.sleep(0.001)

    async def schedules(self, concert: int = 1, client: AppClient | None = None, **headers: str) -> Answered:
        path = f"/api/v1/concert/{concert}/available-schedules"
        return await (client or self.client).call("GET", path, headers=headers or INSIDE)

    async def seats(self, schedule: int = 1, client: AppClient | None = None, **headers: str) -> Answered:
        path = f"/api/v1/concert/{schedule}/available-seats"
        return await (client or self.client).call("GET", path, headers=headers or INSIDE)

    async def free(self, schedule: int = 1, client: AppClient | None = None) -> list[int]:
        """The ids of the seats shown as free."""
        info = (await self.seats(schedule, client)).json["concertSeatInfo"]
        return [seat["id"] for seat in info["concertSeat"]] if info else []

    async def states(self, client: AppClient | None = None) -> Any:
        """What `/readyz` says of each part, once the last answer of it is no longer told again."""
        await self.clock.sleep(0.3)
        return (await (client or self.client).call("GET", "/readyz")).json


def in_scene(play: Callable[[Scene], Awaitable[None]], **settings: Any) -> None:
    async def run() -> None:
        async with Scene(**settings).live() as scene:
            await play(scene)

    run_virtual(run())
