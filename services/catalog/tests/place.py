"""One value behind a cache, in virtual time: what the tests of the cache play on."""

from collections.abc import Awaitable, Callable

from libs.common.errors import DependencyDown
from libs.common.testing.virtual import LoopClock, run_virtual
from services.catalog.metrics import CatalogMetrics
from services.catalog.service.cache import JITTER, Cache, Lifetime, Source
from services.catalog.tests.kit import MemoryShared

TTL_S, STALE_S, ABSENT_S = 60.0, 60.0, 1.0
LATE_S = TTL_S * (1 + JITTER)
"""By now everything loaded at 0 is past its time."""


class Place:
    """A store with one value, and a cache in front of it. `value` None: there is no such thing."""

    def __init__(self, shared: MemoryShared | None = None, chance: Callable[[], float] = lambda: 0.5) -> None:
        self.clock = LoopClock()
        self.metrics = CatalogMetrics()
        self.value: bytes | None = b"first"
        self.delay_s = 0.1
        self.down = False
        self.loads: list[int] = []
        self.decoded = 0
        self.shared = shared
        self.chance = chance
        self.cache = self.new_cache()

    def new_cache(self, weight_max: int = 1_000) -> Cache[str]:
        """The cache of another process in front of the same store."""
        life = Lifetime(TTL_S, STALE_S, ABSENT_S)
        source = Source("concert", self._load, self._decode, life, weight_max, weigh=len)
        return Cache(source, self.shared, self.clock, self.metrics.cache["concert"], self.chance)

    async def _load(self, key: int) -> bytes | None:
        self.loads.append(key)
        value = self.value
        await self.clock.sleep(self.delay_s)
        if self.down:
            raise DependencyDown("the store is down")
        return value

    def _decode(self, raw: bytes) -> str:
        self.decoded += 1
        return raw.decode()

    async def at(self, second: float) -> None:
        """Sleep until `second` of the run."""
        await self.clock.sleep(second - self.clock.monotonic_s())

    def reads(self, outcome: str) -> float:
        return self._sample("stagedoor_catalog_cache_reads_total", outcome=outcome)

    def store_loads(self) -> float:
        return self._sample("stagedoor_catalog_cache_store_loads_total")

    def gauge(self, name: str) -> float:
        return self._sample(f"stagedoor_catalog_cache_{name}_seconds")

    def _sample(self, name: str, **labels: str) -> float:
        value = self.metrics.registry.get_sample_value(name, {"kind": "concert", **labels})
        assert value is not None
        return value


def in_place(play: Callable[[Place], Awaitable[None]], place: Callable[[], Place] = Place) -> None:
    async def run() -> None:
        here = place()
        await play(here)
        await here.cache.stop()

    run_virtual(run())
