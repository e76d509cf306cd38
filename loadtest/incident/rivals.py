"""The three caches that are put before the same store, each as one process of two that share a Redis.

`off` is what the report's application did: ask Redis, on a miss ask the store, write to Redis for a time to live.
`cashews early` is the library's own decorator, with its defaults: the answer counts as fresh for as long as ours does,
and is kept as long past that. `ours` is the catalog itself, put together as its `app.py` does it, without HTTP.
"""

import random
from collections.abc import Awaitable, Callable
from typing import Protocol

import cashews
import orjson
from cashews.backends.redis import Redis as CashewsRedis
from cashews.picklers import PicklerType
from cashews.wrapper import register_backend

from libs.common.jobs import Cycle
from libs.common.redis_client import RedisClient
from libs.common.system import SystemClock
from libs.common.web.admission import Admission
from services.catalog.domain import concert_body, layout_body
from services.catalog.jobs import KEEP_WARM_EVERY_S
from services.catalog.metrics import CatalogMetrics
from services.catalog.ports import Shelf
from services.catalog.repository import RedisCache
from services.catalog.service.cache import Lifetime
from services.catalog.service.catalog import CatalogService
from services.catalog.service.library import Library, Limits
from services.catalog.service.view import View
from services.catalog.settings import CatalogSettings

CONCERT = ROOM = 1
INSIDE = Admission("ticket", room=ROOM, sequence=1)

# The library registers no socket of its own accord; the class behind `redis://` takes one.
register_backend("unix", CashewsRedis, pass_uri=True, pickler=PicklerType.DEFAULT)


class Rival(Protocol):
    """One process that answers readers. It starts with nothing in its memory. Reads raise DependencyDown."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def schedules(self) -> object:
        """What a reader is told of the concert."""
        ...

    async def seats(self, schedule: int) -> object:
        """What a reader is told of one schedule."""
        ...


class CacheAside:
    """Ask Redis, else the store, and tell Redis."""

    def __init__(self, shelf: Shelf, redis_url: str, life: Lifetime) -> None:
        self._shelf = shelf
        self._redis = RedisCache(RedisClient(redis_url))
        self._ttl_s = life.ttl_s

    async def start(self) -> None:
        await self._redis.start()

    async def stop(self) -> None:
        await self._redis.stop()

    async def schedules(self) -> bytes:
        return await self._cached("concert", lambda: _concert(self._shelf))

    async def seats(self, schedule: int) -> bytes:
        return await self._cached(f"schedule:{schedule}", lambda: _schedule(self._shelf, schedule))

    async def _cached(self, key: str, load: Callable[[], Awaitable[bytes]]) -> bytes:
        found = await self._redis.get(key)
        if found is None:
            found = await load()
            await self._redis.put(key, found, self._ttl_s)
        return found


class CashewsEarly:
    """`Cache.early` of cashews on the same Redis."""

    def __init__(self, shelf: Shelf, redis_url: str, life: Lifetime) -> None:
        self._cache = cashews.Cache()
        self._cache.setup(redis_url)
        kept_s = life.ttl_s + life.stale_s

        @self._cache.early(ttl=kept_s, early_ttl=life.ttl_s, key="concert")
        async def schedules() -> bytes:
            return await _concert(shelf)

        @self._cache.early(ttl=kept_s, early_ttl=life.ttl_s, key="schedule:{schedule}")
        async def seats(schedule: int) -> bytes:
            return await _schedule(shelf, schedule)

        self.schedules, self.seats = schedules, seats

    async def start(self) -> None:
        await self._cache.init()

    async def stop(self) -> None:
        await self._cache.close()


class Catalog:
    """The product's own: memory, single flight, early refresh, keeping warm, stale answers, the shared Redis."""

    def __init__(self, shelf: Shelf, redis_url: str, life: Lifetime) -> None:
        clock, metrics, settings = SystemClock(), CatalogMetrics(), CatalogSettings()
        self._redis = RedisCache(RedisClient(redis_url))
        limits = Limits(life, life, settings.cached_seats_max)
        self._library = Library(shelf, self._redis, limits, clock, metrics, chance=random.random)
        self._warming = Cycle("catalog_keep_warm", KEEP_WARM_EVERY_S, self._library.keep_warm, clock, metrics)
        self._service = CatalogService(
            shelf, self._library, View(metrics), clock, metrics, answer_every_s=settings.answer_every_s
        )

    async def start(self) -> None:
        await self._library.start()
        await self._warming.start()

    async def stop(self) -> None:
        await self._warming.stop()
        await self._library.stop()
        await self._redis.stop()

    async def schedules(self) -> bytes:
        return await self._service.schedules(CONCERT, INSIDE)

    async def seats(self, schedule: int) -> bytes:
        return await self._service.seats(schedule, INSIDE)


async def _concert(shelf: Shelf) -> bytes:
    found = await shelf.concert(CONCERT)
    return b"" if found is None else orjson.dumps(concert_body(found))


async def _schedule(shelf: Shelf, schedule: int) -> bytes:
    found = await shelf.layout(schedule)
    return b"" if found is None else orjson.dumps(layout_body(found))


RIVALS: dict[str, Callable[[Shelf, str, Lifetime], Rival]] = {
    "off": CacheAside,
    "cashews early": CashewsEarly,
    "ours": Catalog,
}
