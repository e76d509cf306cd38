"""The store that the incident drowned: each read takes its time and one of a few connections, and may be refused.

The report names no pool. Its application was one of Spring Boot's, where a pool has 10 connections and a caller waits
30 s for one, unless somebody says otherwise: those two figures are used here. With 100 ms a read that is 100 reads a
second, whoever asks.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from libs.common.clock import Clock
from libs.common.errors import DependencyDown
from libs.common.storage.memory import MemoryCollection, MemoryStore
from libs.common.storage.ports import Collection, Versioned, Where
from services.catalog.domain import Concert, Layout
from services.catalog.ports import Shelf

READ_S = 0.1
POOL_COUNT = 10
POOL_WAIT_S = 30.0
REFUSAL_S = 0.001
"""What it costs to find out that the store is down."""


class SlowStore(MemoryStore):
    """Documents in memory, read in `read_s` seconds through one of `POOL_COUNT` connections; refused while `down`."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.read_s = 0.0
        self.down = False
        self._connections = asyncio.Semaphore(POOL_COUNT)

    def collection(self, declared: Collection[Any]) -> MemoryCollection:
        return self._collections.setdefault(declared.name, _SlowCollection(self, declared))

    @asynccontextmanager
    async def read(self) -> AsyncIterator[None]:
        """One read, as long as it takes. Raises DependencyDown, also in the middle of one."""
        try:
            async with asyncio.timeout(POOL_WAIT_S):
                await self._connections.acquire()
        except TimeoutError:
            raise DependencyDown(f"No connection to the store within {POOL_WAIT_S:.0f} s.") from None
        try:
            await self.clock.sleep(REFUSAL_S if self.down else self.read_s)
            if self.down:
                raise DependencyDown("The store is down.")
            yield
        finally:
            self._connections.release()


class _SlowCollection(MemoryCollection):
    def __init__(self, store: SlowStore, declared: Collection[Any]) -> None:
        super().__init__(store, declared)
        self._slow = store

    async def load(self, id_: str) -> Versioned | None:
        async with self._slow.read():
            return await super().load(id_)

    async def find(self, where: Sequence[Where], order_by: str | None, descending: bool, limit: int) -> list[Versioned]:
        async with self._slow.read():
            return await super().find(where, order_by, descending, limit)


class Fills:
    """Loads of one process. A fill of a key lasts as long as at least one load of it is under way."""

    def __init__(self) -> None:
        self.loads = 0
        self.fills = 0
        self.most = 0
        self._under_way: dict[object, int] = {}
        self._in_fill: dict[object, int] = {}

    @contextmanager
    def load(self, key: object) -> Iterator[None]:
        """One load of a key, from when it is asked for until it ends."""
        running = self._under_way.get(key, 0)
        self.loads += 1
        self.fills += running == 0
        self._in_fill[key] = self._in_fill[key] + 1 if running else 1
        self._under_way[key] = running + 1
        self.most = max(self.most, self._in_fill[key])
        try:
            yield
        finally:
            self._under_way[key] -= 1


class CountedShelf:
    """The catalog's `Shelf` as one process reads it, with its loads counted; `fills` is changed for a new count."""

    def __init__(self, shelf: Shelf) -> None:
        self.fills = Fills()
        self._shelf = shelf
        self.owner, self.propose, self.publish = shelf.owner, shelf.propose, shelf.publish

    async def concerts(self) -> list[Concert]:
        with self.fills.load("concerts"):
            return await self._shelf.concerts()

    async def concert(self, concert: int) -> Concert | None:
        with self.fills.load(("concert", concert)):
            return await self._shelf.concert(concert)

    async def layout(self, schedule: int) -> Layout | None:
        """A load of one key, and for the store two reads: the layouts proposed, and the concert that names one."""
        with self.fills.load(("schedule", schedule)):
            return await self._shelf.layout(schedule)
