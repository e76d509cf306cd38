"""Reads that cannot stampede: process memory, then the cache all processes share, then the store.

    get ── fresh ───────────────────────────────▶ the value           early refresh, by chance, in the background
        ── past its time, by `stale_s` at most ─▶ the value           refresh in the background
        ── known not to be there ───────────────▶ None
        ── not there ── one load per key ── shared copy young? ── yes ▶ the value
                                                       └── no ── store ▶ the value, and a new shared copy

However many ask, one load of a key is under way in this process. Of different keys only a few ask the store at once:
hundreds that shared its connections would all run out of time before one of them ends.

Early refresh is XFetch (Vattani, Chiera, Lowenstein: "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015): a
reader refreshes when `-β · δ · ln(chance)` reaches the time left, δ being how long the last load took, so that the
costlier a load, the earlier one of many readers begins it. Times to live differ by up to a tenth, so that what was
loaded together does not expire together.

A shared copy is taken while it is younger than half its time to live; an older one only when the store does not answer.
So processes that refresh around the same time cost the store one load, and none of them hands on an old copy as new.
"""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from libs.common import log
from libs.common.clock import Clock
from libs.common.errors import DependencyDown, Overloaded, Problem
from libs.common.ids import fingerprint
from services.catalog.metrics import CacheMetrics
from services.catalog.ports import SharedCache
from services.catalog.service.unreadable import UnreadableKeys

LOADS_RUNNING_MAX = 256
"""Loads of one kind that are under way; more are refused."""

STORE_LOADS_RUNNING_MAX = 8
"""Loads of one kind that ask the store side by side; the others wait for their turn."""

TURN_TIMEOUT_S = 1.0
LOAD_TIMEOUT_S = 2.0
"""From the load's turn on, so that what was begun can end."""

SHARED_TIMEOUT_S = 0.05
"""A slow shared cache costs a load this much and no more."""

RETRY_AFTER_S = 1.0
"""Least time between two refreshes of a key that no news asks for: a store that is down is not tried at every read."""

ABSENT_COUNT_MAX = 10_000
JITTER = 0.1
BETA = 1.0
LN_MAX = 37.0
"""`-ln` of the smallest chance a double holds: further from its end than this many δ, nothing is refreshed early."""

KEEP_SHARE = 0.1
"""The last part of a life in which `is_due` asks for a refresh, readers or not."""

STAMP_BYTES = 8
"""A shared copy begins with the time it left the store (epoch ms, big-endian)."""

logger = log.get_logger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Seconds for which a thing counts as fresh, may be told past that, and for which "not there" is remembered."""

    ttl_s: float
    stale_s: float
    absent_ttl_s: float


@dataclass(frozen=True)
class Source(Generic[T]):
    """A kind of thing: `load` brings its bytes from the store, or None where there is no such thing; `weigh` says how
    much of `weight_max` it takes. `kept` names what is kept warm, where that is not all of it: anything else may run
    out when nobody reads it."""

    kind: str
    load: Callable[[int], Awaitable[bytes | None]]
    decode: Callable[[bytes], T]
    life: Lifetime
    weight_max: int
    weigh: Callable[[T], int] = lambda _: 1
    kept: Callable[[], Iterable[int]] | None = None


@dataclass(slots=True)
class _Entry(Generic[T]):
    """`loaded_ms` is when it left the store (epoch ms), `expires_s` a monotonic time, `cost_s` what loading took: δ."""

    value: T
    digest: str
    weight: int
    loaded_ms: int
    expires_s: float
    cost_s: float
    retry_s: float


@dataclass(frozen=True, slots=True)
class _Copy:
    """Bytes and when they left the store, in epoch ms."""

    raw: bytes
    loaded_ms: int


class Cache(Generic[T]):
    """All things of one kind, by number. `chance` returns numbers from 0 up to but not including 1."""

    def __init__(
        self,
        source: Source[T],
        shared: SharedCache | None,
        clock: Clock,
        metrics: CacheMetrics,
        chance: Callable[[], float],
    ) -> None:
        self._source = source
        self._life = source.life
        self._shared = shared
        self._clock = clock
        self._metrics = metrics
        self._chance = chance
        self._hit, self._stale, self._miss, self._absent_read = (
            metrics.reads[outcome] for outcome in ("hit", "stale", "miss", "absent")
        )
        self._entries: OrderedDict[int, _Entry[T]] = OrderedDict()
        self._absent: OrderedDict[int, float] = OrderedDict()
        self._unreadable = UnreadableKeys(source.kind, clock)
        self._flights: dict[int, asyncio.Task[T | None]] = {}
        self._detached: set[asyncio.Task[T | None]] = set()
        self._sharing: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(STORE_LOADS_RUNNING_MAX)
        self._changed: set[int] = set()
        """Keys whose shared copies must not be believed, until the store was asked."""
        self.weight = 0
        metrics.watch(self._lowest_ttl_left_s, self._highest_age_s)

    async def get(self, key: int) -> T | None:
        """The value, or None where there is no such thing. Does not wait for anything that is in memory.

        Raises DependencyDown when neither memory nor Redis nor the store can tell, Overloaded when too many loads run.
        """
        entry = self._entries.get(key)
        if entry is None:
            return await self._get_missing(key)
        now_s = self._clock.monotonic_s()
        left_s = entry.expires_s - now_s
        if left_s > 0:
            self._hit.inc()
            self._entries.move_to_end(key)
            if left_s < LN_MAX * BETA * entry.cost_s and self._is_early(entry, left_s):
                self._metrics.early.inc()
                self._refresh(key, entry, now_s)
            return entry.value
        if left_s > -self._life.stale_s:
            self._stale.inc()
            self._entries.move_to_end(key)
            self._refresh(key, entry, now_s)
            return entry.value
        return await self._get_missing(key)

    def peek(self, key: int) -> T | None:
        """What is in memory, whatever its age; asking changes nothing."""
        entry = self._entries.get(key)
        return None if entry is None else entry.value

    def values(self) -> list[T]:
        """Everything in memory."""
        return [entry.value for entry in self._entries.values()]

    def is_due(self, key: int) -> bool:
        """True when a background refresh should load the key: it is not there, or near its end, and not just tried."""
        now_s, entry = self._clock.monotonic_s(), self._entries.get(key)
        if self._unreadable.are_put_off(key) or self._absent.get(key, now_s) > now_s:
            return False
        return entry is None or (entry.expires_s - now_s < KEEP_SHARE * self._life.ttl_s and now_s >= entry.retry_s)

    async def refresh(self, key: int) -> T | None:
        """Load the key whatever is in memory; joins a load under way. Raises as `get` does."""
        return await asyncio.shield(self._flight(key))

    def changed(self, key: int) -> None:
        """The store has news: what is in memory is stale from now on, and a load under way may bring the past.

        The next load drops the shared copy and asks the store.
        """
        self._absent.pop(key, None)
        self._unreadable.forget(key)
        self._changed.add(key)
        flight = self._flights.pop(key, None)
        if flight is not None:
            self._detached.add(flight)
            flight.add_done_callback(self._detached.discard)
        entry = self._entries.get(key)
        if entry is not None:
            entry.expires_s = min(entry.expires_s, self._clock.monotonic_s())
            entry.retry_s = 0.0

    async def stop(self) -> None:
        """End the loads under way."""
        tasks = [*self._flights.values(), *self._detached, *self._sharing]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _get_missing(self, key: int) -> T | None:
        if self._absent.get(key, 0.0) > self._clock.monotonic_s():
            self._absent_read.inc()
            return None
        self._miss.inc()
        self._unreadable.check(key)
        return await asyncio.shield(self._flight(key))

    def _is_early(self, entry: _Entry[T], left_s: float) -> bool:
        # `1 - chance` is never 0, and as likely as chance itself.
        return -BETA * entry.cost_s * math.log(1.0 - self._chance()) >= left_s

    def _refresh(self, key: int, entry: _Entry[T], now_s: float) -> None:
        """Begin a load that nobody waits for, unless one is under way, just failed, or too many run."""
        if key not in self._flights and now_s >= entry.retry_s and len(self._flights) < LOADS_RUNNING_MAX:
            self._flight(key)

    def _flight(self, key: int) -> "asyncio.Task[T | None]":
        """The one load of a key that is under way."""
        flight = self._flights.get(key)
        if flight is None:
            if len(self._flights) >= LOADS_RUNNING_MAX:
                raise Overloaded("Too many different things are asked for at once.", retry_after_s=1)
            flight = self._flights[key] = asyncio.create_task(self._load(key))
            flight.add_done_callback(partial(self._landed, key))
        return flight

    def _landed(self, key: int, flight: "asyncio.Task[T | None]") -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        error = None if flight.cancelled() else flight.exception()
        if error is None:
            return
        self._metrics.loads_failed.inc()
        entry = self._entries.get(key)
        if entry is not None:
            entry.retry_s = self._clock.monotonic_s() + RETRY_AFTER_S
        if not isinstance(error, Problem):  # a fault of ours: a reader may not be there to see it
            logger.error("load failed", kind=self._source.kind, key=key, exc_info=error)

    async def _load(self, key: int) -> T | None:
        try:
            value = await self._bring(key)
        except (Problem, MemoryError):  # neither says anything about what is stored
            raise
        except Exception as wrong:
            self._changed.add(key)  # nor is a shared copy of it to be believed
            raise self._unreadable.found(key, wrong) from wrong
        self._unreadable.forget(key)
        return value

    async def _bring(self, key: int) -> T | None:
        began_s = self._clock.monotonic_s()
        copy = await self._fetch(key)
        cost_s = self._clock.monotonic_s() - began_s
        self._metrics.load_seconds.observe(cost_s)
        overtaken = self._is_overtaken(key)
        if copy is not None:
            return self._remember(key, copy, cost_s, overtaken=overtaken)
        if not overtaken:
            self._forget(key)
            self._remember_absent(key)
        return None

    def _is_overtaken(self, key: int) -> bool:
        """True in a load during which the store changed: it may have read what was before."""
        return self._flights.get(key) is not asyncio.current_task()

    async def _fetch(self, key: int) -> _Copy | None:
        shared = await (self._drop_shared_copy(key) if key in self._changed else self._shared_copy(key))
        if shared is not None and self._age_s(shared.loaded_ms) < self._life.ttl_s / 2:
            return shared
        loaded_ms = self._clock.now_ms()
        try:
            raw = await self._from_store(key)
        except DependencyDown:
            if shared is None:
                raise
            return shared
        copy = None if raw is None else _Copy(raw, loaded_ms)
        if not self._is_overtaken(key):
            self._changed.discard(key)
            self._share(key, copy)
        return copy

    async def _from_store(self, key: int) -> bytes | None:
        await self._take_turn()
        self._metrics.store_loads.inc()
        try:
            async with asyncio.timeout(LOAD_TIMEOUT_S):
                return await self._source.load(key)
        except TimeoutError:
            raise DependencyDown("The catalog's store does not answer in time.", retry_after_s=1) from None
        finally:
            self._turns.release()

    async def _take_turn(self) -> None:
        try:
            async with asyncio.timeout(TURN_TIMEOUT_S):
                await self._turns.acquire()
        except TimeoutError:
            raise DependencyDown("The catalog's store answers slower than it is asked.", retry_after_s=1) from None

    def _remember(self, key: int, copy: _Copy, cost_s: float, *, overtaken: bool) -> T:
        """Put a load's result into memory, where it is stale from the first if the load was overtaken."""
        before, digest = self._entries.get(key), fingerprint(copy.raw)
        if before is not None and overtaken and before.loaded_ms > copy.loaded_ms:
            return before.value
        # An unchanged thing keeps its decoded form, and with it all that was made of that.
        unchanged = before is not None and before.digest == digest
        value = before.value if before is not None and unchanged else self._source.decode(copy.raw)
        self._forget(key)
        ttl_s = self._life.ttl_s * (1 + JITTER * (2 * self._chance() - 1))
        now_s = self._clock.monotonic_s()
        expires_s = now_s if overtaken else now_s + ttl_s - self._age_s(copy.loaded_ms)
        retry_s = now_s if overtaken else now_s + RETRY_AFTER_S
        weight = self._source.weigh(value)
        self._absent.pop(key, None)
        self._entries[key] = _Entry(value, digest, weight, copy.loaded_ms, expires_s, cost_s, retry_s)
        self.weight += weight
        while self.weight > self._source.weight_max and len(self._entries) > 1:
            self._forget(next(iter(self._entries)))
        return value

    def _forget(self, key: int) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.weight -= entry.weight

    def _remember_absent(self, key: int) -> None:
        self._absent[key] = self._clock.monotonic_s() + self._life.absent_ttl_s
        self._absent.move_to_end(key)
        if len(self._absent) > ABSENT_COUNT_MAX:
            self._absent.popitem(last=False)

    async def _shared_copy(self, key: int) -> _Copy | None:
        if self._shared is None:
            return None
        try:
            async with asyncio.timeout(SHARED_TIMEOUT_S):
                found = await self._shared.get(self._shared_key(key))
        except (DependencyDown, TimeoutError):
            self._metrics.shared["error"].inc()
            return None
        if found is None or len(found) < STAMP_BYTES:
            self._metrics.shared["miss"].inc()
            return None
        self._metrics.shared["hit"].inc()
        return _Copy(found[STAMP_BYTES:], int.from_bytes(found[:STAMP_BYTES], "big"))

    def _share(self, key: int, copy: _Copy | None) -> None:
        """Write a shared copy without keeping a reader waiting."""
        if copy is None or self._shared is None or len(self._sharing) >= LOADS_RUNNING_MAX:
            return
        stamped = copy.loaded_ms.to_bytes(STAMP_BYTES, "big") + copy.raw
        ttl_s = self._life.ttl_s + self._life.stale_s
        task = asyncio.create_task(self._write_shared(partial(self._shared.put, self._shared_key(key), stamped, ttl_s)))
        self._sharing.add(task)
        task.add_done_callback(self._sharing.discard)

    async def _drop_shared_copy(self, key: int) -> None:
        if self._shared is not None:
            await self._write_shared(partial(self._shared.drop, self._shared_key(key)))

    async def _write_shared(self, write: Callable[[], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(SHARED_TIMEOUT_S):
                await write()
        except (DependencyDown, TimeoutError):
            self._metrics.shared["error"].inc()

    def _shared_key(self, key: int) -> str:
        # The version changes with what the bytes look like, so that old and new processes can share one Redis.
        return f"stagedoor:catalog:v1:{self._source.kind}:{key}"

    def _age_s(self, loaded_ms: int) -> float:
        return max(0.0, (self._clock.now_ms() - loaded_ms) / 1000)

    def _lowest_ttl_left_s(self) -> float:
        now_s = self._clock.monotonic_s()
        keys = self._entries if self._source.kept is None else self._source.kept()
        kept = (entry for key in keys if (entry := self._entries.get(key)) is not None)
        return min((entry.expires_s - now_s for entry in kept), default=self._life.ttl_s)

    def _highest_age_s(self) -> float:
        return max((self._age_s(entry.loaded_ms) for entry in self._entries.values()), default=0.0)
