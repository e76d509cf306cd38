"""Concerts, schedules and seat maps in memory, warm before anyone asks and kept warm as long as the store answers."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson

from libs.common.clock import Clock
from libs.common.errors import DependencyDown, Overloaded
from libs.common.jobs import each
from services.catalog.domain import concert_body, layout_body
from services.catalog.metrics import CatalogMetrics
from services.catalog.ports import SharedCache, Shelf
from services.catalog.service.boards import ConcertBoard, ConcertList, SeatMap
from services.catalog.service.cache import Cache, Lifetime, Source
from services.catalog.service.unreadable import Unreadable

ALL = 0
"""The one key under which the list of all concerts is cached."""

CONCERTS_CACHED_MAX = 10_000

WARM_COUNT_MAX = 64
"""Things one bite of keeping warm loads."""

WARM_RUNNING_MAX = 8


@dataclass(frozen=True, slots=True)
class Limits:
    """How long concerts and seat maps live in memory, and how many seats the maps there may have together."""

    concerts: Lifetime
    schedules: Lifetime
    seats_max: int


class Library:
    """Three caches in front of the shelf."""

    def __init__(
        self,
        shelf: Shelf,
        shared: SharedCache | None,
        limits: Limits,
        clock: Clock,
        metrics: CatalogMetrics,
        *,
        chance: Callable[[], float],
    ) -> None:
        self._shelf = shelf
        self._is_warm = False
        self._seats_max = limits.seats_max

        def cache(source: Source[Any]) -> Cache[Any]:
            return Cache(source, shared, clock, metrics.cache[source.kind], chance)

        self.list: Cache[ConcertList] = cache(Source("concerts", self._load_list, ConcertList, limits.concerts, 1))
        self.concerts: Cache[ConcertBoard] = cache(
            Source("concert", self._load_concert, ConcertBoard, limits.concerts, CONCERTS_CACHED_MAX)
        )
        self.schedules: Cache[SeatMap] = cache(
            Source(
                "schedule",
                self._load_schedule,
                SeatMap,
                limits.schedules,
                limits.seats_max,
                _seat_count,
                self._kept_schedules,
            )
        )

    async def start(self) -> None:
        """Nothing to do: `keep_warm` fills the caches."""

    async def stop(self) -> None:
        for cache in (self.list, self.concerts, self.schedules):
            await cache.stop()

    async def ping(self) -> None:
        """Raises DependencyDown until everything that can be read was loaded once."""
        if not self._is_warm:
            raise DependencyDown("The caches are not warm yet.")

    async def keep_warm(self) -> bool:
        """Load what is missing or near its end, within a bound; True when more is waiting. Raises DependencyDown."""
        listed = await self._listed()
        waiting = list(islice(self._cold(listed.ids if listed else ()), WARM_COUNT_MAX))

        async def load(due: tuple[Cache[Any], int]) -> None:
            cache, key = due
            with suppress(Unreadable):  # the cache has said so, and the others are not to wait for it
                await cache.refresh(key)

        went_well = await each(waiting, load, WARM_RUNNING_MAX)
        self._is_warm = self._is_warm or (not waiting and self._reads_maps())
        # What is loaded first names what to load next; once all is warm, the next cycle is soon enough for that.
        return went_well and bool(waiting) and (not self._is_warm or len(waiting) == WARM_COUNT_MAX)

    async def schedule_ids(self) -> list[int]:
        """Every published schedule. Raises DependencyDown."""
        listed = await self.list.get(ALL)
        boards = [await self.concerts.get(concert) for concert in (listed.ids if listed else ())]
        return [listing.schedule for board in boards if board for listing in board.concert.schedules]

    def heard_of(self, concert: int, schedules: Iterable[int]) -> None:
        """Schedules of a concert were published: what is in memory about it is the past."""
        self.list.changed(ALL)
        self.concerts.changed(concert)
        for schedule in schedules:
            self.schedules.changed(schedule)

    async def read_again(self, concert: int) -> None:
        """Bring a concert up to date before anyone is told that it is on sale; later, when the store is down."""
        with suppress(DependencyDown, Overloaded):
            await asyncio.gather(self.list.refresh(ALL), self.concerts.refresh(concert))

    async def after_gap(self) -> None:
        """News of publications may have been missed: look at every concert again."""
        self.list.changed(ALL)
        for board in self.concerts.values():
            self.concerts.changed(board.concert.id)

    async def _listed(self) -> ConcertList | None:
        return await (self.list.refresh(ALL) if self.list.is_due(ALL) else self.list.get(ALL))

    def _cold(self, concerts: Iterable[int]) -> Iterator[tuple[Cache[Any], int]]:
        """Each concert that is due, and its seat maps that are and are kept warm."""
        for concert, schedules in self._kept(concerts):
            if self.concerts.is_due(concert):
                yield self.concerts, concert
            yield from ((self.schedules, schedule) for schedule in schedules if self.schedules.is_due(schedule))

    def _kept_schedules(self) -> list[int]:
        listed = self.list.peek(ALL)
        return [schedule for _, schedules in self._kept(listed.ids if listed else ()) for schedule in schedules]

    def _kept(self, concerts: Iterable[int]) -> Iterator[tuple[int, list[int]]]:
        """Each concert and its schedules whose seat maps are kept warm: as long as all before them fit into memory."""
        room = self._seats_max
        for concert in concerts:
            board = self.concerts.peek(concert)
            fitting = []
            for listing in board.concert.schedules if board else ():
                room -= listing.seat_count
                if room >= 0:
                    fitting.append(listing.schedule)
            yield concert, fitting

    def _reads_maps(self) -> bool:
        """False when not one seat map can be read: a release that is to blame for that takes nobody's place."""
        kept = self._kept_schedules()
        return not kept or any(self.schedules.peek(schedule) is not None for schedule in kept)

    async def _load_list(self, _: int) -> bytes:
        return orjson.dumps([concert_body(concert) for concert in await self._shelf.concerts()])

    async def _load_concert(self, concert: int) -> bytes | None:
        found = await self._shelf.concert(concert)
        return None if found is None else orjson.dumps(concert_body(found))

    async def _load_schedule(self, schedule: int) -> bytes | None:
        found = await self._shelf.layout(schedule)
        return None if found is None else orjson.dumps(layout_body(found))


def _seat_count(seats: SeatMap) -> int:
    return seats.seat_count
