"""The queue on memory adapters in virtual time: instances that share a store, and an ear on what they tell."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from libs.common.events.catalogue import from_message, to_message
from libs.common.events.queue import LineMoved, SessionClosed, SessionOpened
from libs.common.events.reservation import ReservationConfirmed
from libs.common.events.topics import QUEUE_LINE, QUEUE_SESSION
from libs.common.messaging.memory import MemoryBroker, MemoryBus
from libs.common.messaging.ports import Message
from libs.common.metrics import CommonMetrics
from libs.common.storage.memory import MemoryCollection, MemoryStore
from libs.common.storage.ports import Body, Collection, Versioned, Where
from libs.common.testing.app_client import Answered, AppClient
from libs.common.testing.virtual import START_MS, LoopClock, run_virtual
from libs.common.tickets import TicketCodec
from services.queue.app import create_app
from services.queue.settings import QueueSettings

KEYS = "1:" + "5a" * 16
CODEC = TicketCodec.from_settings(KEYS, 1)
TICK_S = 1.0


class SlowCollection:
    """A collection behind a wire: calls wait for the gate, take a random while, and may act before they answer."""

    def __init__(self, store: "SlowStore", behind: MemoryCollection) -> None:
        self._store = store
        self._behind = behind

    async def load(self, id_: str) -> Versioned | None:
        await self._store.wire()
        found = await self._behind.load(id_)
        self._store.on_load()
        await self._store.wire()
        return found

    async def swap(self, id_: str, expected: int, body: Body, events: Sequence[Message]) -> None:
        await self._store.wire()
        await self._behind.swap(id_, expected, body, events)
        self._store.on_swap()
        await self._store.wire()

    async def find(self, where: Sequence[Where], order_by: str | None, descending: bool, limit: int) -> list[Versioned]:
        await self._store.wire()
        found = await self._behind.find(where, order_by, descending, limit)
        await self._store.wire()
        return found

    async def count(self, where: Sequence[Where]) -> int:
        await self._store.wire()
        counted = await self._behind.count(where)
        await self._store.wire()
        return counted

    async def purge(self, where: Sequence[Where], limit: int) -> int:
        await self._store.wire()
        return await self._behind.purge(where, limit)


class SlowStore(MemoryStore):
    """One instance's way to the shared store. `gate` stops the instance as if it were paused."""

    def __init__(self, shared: MemoryStore, chance: random.Random | None, on_swap: Callable[[], None]) -> None:
        super().__init__(shared.clock)
        self.shared = shared
        self.outbox, self.published = shared.outbox, shared.published
        self.gate = asyncio.Event()
        self.gate.set()
        self.on_swap = on_swap
        self.on_load: Callable[[], None] = lambda: None
        self._chance = chance

    def collection(self, declared: Collection[Any]) -> Any:
        return SlowCollection(self, self.shared.collection(declared))

    async def wire(self) -> None:
        if self._chance is not None:
            await asyncio.sleep(self._chance.choice((0, 0, 0.001, 0.02, 0.3)))
        await self.gate.wait()


class Scene:
    """Any number of instances of the queue on one store and one broker; `heard` is all they have told."""

    def __init__(self, seed: int | None = None, **settings: Any) -> None:
        self.clock = LoopClock()
        self.store = MemoryStore(self.clock)
        self.broker = MemoryBroker(self.clock)
        self.heard: list[Any] = []
        self.on_swap: Callable[[], None] = lambda: None
        self._settings = {"ticket_keys": KEYS, "room_capacity": 3, **settings}
        self._chance = None if seed is None else random.Random(seed)
        self._ear = MemoryBus(self.broker, "ear", CommonMetrics("scene"))
        self._names = 0

    def instance(self, **changed: Any) -> tuple[AppClient, SlowStore]:
        """One more instance, not started, and its way to the store."""
        self._names += 1
        name = f"q{self._names}"
        store = SlowStore(self.store, self._chance, self._swapped)
        bus = MemoryBus(self.broker, name, CommonMetrics("queue"))
        settings = QueueSettings(instance=name, **(self._settings | changed))
        return AppClient(create_app(settings, clock=self.clock, store=store, bus=bus, process=name)), store

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Scene"]:
        await self._ear.listen(QUEUE_LINE, self._hear, self._no_gap)
        await self._ear.listen(QUEUE_SESSION, self._hear, self._no_gap)
        yield self
        await self._ear.stop()

    def _swapped(self) -> None:
        self.on_swap()

    async def _hear(self, message: Message) -> None:
        self.heard.append(from_message(message))

    async def _no_gap(self) -> None:
        raise AssertionError("nothing is lost here")

    @property
    def moves(self) -> list[LineMoved]:
        return [event for event in self.heard if isinstance(event, LineMoved)]

    @property
    def opened(self) -> list[int]:
        return [event.sequence for event in self.heard if isinstance(event, SessionOpened)]

    @property
    def closed(self) -> list[tuple[int, str]]:
        return [(event.sequence, event.reason) for event in self.heard if isinstance(event, SessionClosed)]

    async def confirm(self, sequence: int | None, room: int | None = 1) -> None:
        """Tell that a ticket has bought."""
        event = ReservationConfirmed(
            "r-1", 1, user=7, ticket=ticket(sequence or 1), room=room, sequence=sequence, at_ms=START_MS
        )
        await self._ear.publish([to_message(event, f"confirmed-{room}-{sequence}", "test")])

    async def ticks(self, count: int = 1) -> None:
        """Let that many ticks pass, and what they tell arrive."""
        await self.clock.sleep(count * TICK_S + 0.05)


class People:
    """What people ask of one instance."""

    def __init__(self, client: AppClient) -> None:
        self.client = client

    async def join(self, count: int = 1, **body: Any) -> list[int]:
        """Join that many times, one after another; the sequences."""
        return [(await self.ask_to_join(**body)).json["sequence"] for _ in range(count)]

    async def ask_to_join(self, key: str | None = None, **body: Any) -> Answered:
        headers = {} if key is None else {"Idempotency-Key": key}
        return await self.client.call("POST", "/internal/v1/joins", body, headers=headers)

    async def claim(self, sequence: int) -> str:
        """Claim; the state that is told."""
        return str((await self.client.call("POST", "/internal/v1/claims", {"ticket": ticket(sequence)})).json["state"])

    async def read(self, sequence: int) -> tuple[str, str | None]:
        """The state and the reason of a session."""
        view = (await self.client.call("GET", f"/internal/v1/sessions/{ticket(sequence)}")).json
        return view["state"], view["reason"]

    async def leave(self, sequence: int) -> Any:
        return (await self.client.call("DELETE", f"/internal/v1/sessions/{ticket(sequence)}")).json

    async def room(self, id_: int = 1) -> Any:
        rooms = (await self.client.call("GET", "/internal/v1/rooms")).json["rooms"]
        return next(room for room in rooms if room["id"] == id_)

    async def change(self, id_: int = 1, **body: Any) -> Answered:
        asked = {"who": "ops", "why": "a test of the room", **body}
        return await self.client.call("PATCH", f"/internal/v1/rooms/{id_}", asked)


def ticket(sequence: int, room: int = 1) -> str:
    return CODEC.sign(room, sequence)


def play(act: Callable[[Scene, People], Awaitable[None]], **settings: Any) -> None:
    """Run a scene with one instance."""

    async def run() -> None:
        async with Scene(**settings).listening() as scene:
            client, _ = scene.instance()
            async with client:
                await scene.ticks()
                await act(scene, People(client))

    run_virtual(run())


def play_many(
    act: Callable[[Scene, list[People], list[SlowStore]], Awaitable[None]], count: int, **settings: Any
) -> None:
    """Run a scene with several instances, and their ways to the store."""

    async def run() -> None:
        async with Scene(**settings).listening() as scene, AsyncExitStack() as running:
            instances = [scene.instance() for _ in range(count)]
            for client, _ in instances:
                await running.enter_async_context(client)
            await scene.ticks()
            await act(scene, [People(client) for client, _ in instances], [store for _, store in instances])

    run_virtual(run())
