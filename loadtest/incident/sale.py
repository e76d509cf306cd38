"""What the readers of one cache live through, moment after moment, and what it cost them and the store.

Readers do what the seed's booking script does first: ask for the schedules of the concert, think, ask for the seats of
one of them, think. Times are taken around each read, in the process that answers; HTTP is left out, because it costs
each cache the same. A read that begins in a moment is counted there, with what it had waited when nobody waits longer.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

import structlog

from libs.common.clock import Clock
from libs.common.errors import Problem
from libs.common.metrics import CommonMetrics
from libs.common.redis_client import RedisClient
from libs.common.system import SystemClock
from loadtest.incident.rivals import CONCERT, RIVALS, ROOM, Rival
from loadtest.incident.store import CountedShelf, Fills, SlowStore
from services.catalog.domain import Concert, Row, Seat, Section, Venue, lay_out
from services.catalog.repository import CatalogRepository
from services.catalog.service.cache import Lifetime

PROCESS_COUNT = 2
THINK_S = (0.5, 3.0)
FILLED_AT_ONCE = 5
LAST_READS_S = 1.0
"""How long a moment waits for the reads that began in it."""

WARM, EXPIRING, STORE_DOWN, GONE = MOMENTS = ("warm", "expiring", "store down", "all gone")


@dataclass(frozen=True, slots=True)
class Plan:
    """How many read what, how slow the store is, and how long each moment lasts (seconds)."""

    readers: int
    schedules: int
    seats: int
    read_s: float
    life: Lifetime
    moments_s: Mapping[str, float]

    @property
    def keys(self) -> int:
        """Things that are read: the concert and its schedules."""
        return 1 + self.schedules


@dataclass(frozen=True, slots=True)
class Figures:
    """One moment of one cache. Times in ms; `failed` reads raised, `unanswered` ones still waited at its end.

    `loads` asked the store, `fill_mean` and `fill_most` of them for one fill of one key in one process.
    """

    reads: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    failed: int
    unanswered: int
    loads: int
    fill_mean: float
    fill_most: int


@dataclass
class _Tally:
    took_ms: list[float] = field(default_factory=list)
    failed: int = 0
    unanswered: int = 0

    async def read(self, answer: Awaitable[object]) -> None:
        began_s = time.perf_counter()
        try:
            await answer
        except Problem:
            self.failed += 1
        except asyncio.CancelledError:
            self.unanswered += 1
            raise
        finally:
            self.took_ms.append((time.perf_counter() - began_s) * 1000)

    def figures(self, counts: Sequence[Fills]) -> Figures:
        took_ms = sorted(self.took_ms) or [0.0]
        fills, loads = sum(one.fills for one in counts), sum(one.loads for one in counts)
        return Figures(
            reads=len(self.took_ms),
            p50_ms=_share(took_ms, 0.5),
            p95_ms=_share(took_ms, 0.95),
            p99_ms=_share(took_ms, 0.99),
            max_ms=took_ms[-1],
            failed=self.failed,
            unanswered=self.unanswered,
            loads=loads,
            fill_mean=loads / max(1, fills),
            fill_most=max(one.most for one in counts),
        )


def _share(ordered: Sequence[float], share: float) -> float:
    return ordered[round((len(ordered) - 1) * share)]


class _Sale:
    """Two processes with one kind of cache, and their readers."""

    def __init__(self, rival: str, plan: Plan, redis_url: str, store: SlowStore) -> None:
        self._make = RIVALS[rival]
        self._plan = plan
        self._redis_url = redis_url
        shelf = CatalogRepository(store, CommonMetrics("catalog"), lambda _: None)
        self._shelves = [CountedShelf(shelf) for _ in range(PROCESS_COUNT)]
        self._processes: list[Rival] = []

    async def start(self) -> None:
        """Start the processes with nothing in memory and nothing in Redis."""
        redis = RedisClient(self._redis_url)
        await redis.call("FLUSHDB")
        await redis.close()
        self._processes = [self._make(shelf, self._redis_url, self._plan.life) for shelf in self._shelves]
        for process in self._processes:
            await process.start()

    async def stop(self) -> None:
        for process in self._processes:
            await process.stop()

    async def fill(self) -> None:
        """Read everything once in each process."""
        for process in self._processes:
            await process.schedules()
            for first in range(1, self._plan.schedules + 1, FILLED_AT_ONCE):
                schedules = range(first, min(first + FILLED_AT_ONCE, self._plan.schedules + 1))
                await asyncio.gather(*(process.seats(schedule) for schedule in schedules))

    async def moment(self, seconds: float) -> Figures:
        """All readers read for so long."""
        for shelf in self._shelves:
            shelf.fills = Fills()
        tally, ends_s = _Tally(), time.perf_counter() + seconds
        readers = [asyncio.create_task(self._reader(number, tally, ends_s)) for number in range(self._plan.readers)]
        _, waiting = await asyncio.wait(readers, timeout=seconds + LAST_READS_S)
        for reader in waiting:
            reader.cancel()
        for result in await asyncio.gather(*readers, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
        return tally.figures([shelf.fills for shelf in self._shelves])

    async def _reader(self, number: int, tally: _Tally, ends_s: float) -> None:
        chance, process = random.Random(number), self._processes[number % PROCESS_COUNT]  # noqa: S311  no secret
        for turn in count():
            thinks_s = chance.uniform(*THINK_S) if turn else chance.uniform(0, sum(THINK_S) / 2)
            await asyncio.sleep(max(0.0, min(thinks_s, ends_s - time.perf_counter())))
            if time.perf_counter() >= ends_s:
                return
            schedule = chance.randint(1, self._plan.schedules)
            await tally.read(process.seats(schedule) if turn % 2 else process.schedules())


async def play(rival: str, plan: Plan, redis_url: str) -> dict[str, Figures]:
    """All moments of one cache, in their order."""
    _be_quiet()
    clock = SystemClock()
    store = SlowStore(clock)
    sale = _Sale(rival, plan, redis_url, store)
    await _publish(store, plan, clock)
    store.read_s = plan.read_s
    await sale.start()
    await sale.fill()
    figures = {}
    for moment in MOMENTS:
        store.down = moment == STORE_DOWN
        if moment == GONE:
            await sale.stop()
            await sale.start()
        figures[moment] = await sale.moment(plan.moments_s[moment])
    await sale.stop()
    return figures


async def _publish(store: SlowStore, plan: Plan, clock: Clock) -> None:
    shelf = CatalogRepository(store, CommonMetrics("catalog"), lambda _: None)
    row = Row("1", tuple(Seat(seat, str(seat), 10_000) for seat in range(1, plan.seats + 1)))
    starts_at_ms = clock.now_ms() + 86_400_000
    layouts = tuple(
        lay_out(number, CONCERT, ROOM, starts_at_ms, (Section("A", (row,)),)) for number in range(1, plan.schedules + 1)
    )
    for layout in layouts:
        await shelf.propose(layout)
    await shelf.publish(Venue(Concert(CONCERT, "Live", "Hall", ROOM), layouts), clock.now_ms())


def _be_quiet() -> None:
    # What the caches log about a store that is down on purpose would stand between the lines of the report: the
    # catalog's warnings, and a traceback for each refresh or unlocking that cashews began and did not await.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    for name in ("asyncio", "cashews"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
