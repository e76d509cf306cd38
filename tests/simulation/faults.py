"""What goes wrong in a run: drawn from the seed before it begins, and counted as it happens.

Not every seed suffers everything: each class of faults is on or off, and a rate is drawn over two orders of magnitude.
A run in which everything fails at once finds less than many in which a few things fail often.

The stalls of consumers and of whole instances last longer than every timeout of the system (claim window, session,
hold, payment deadline). Without those, faults that need a late message to arrive after everybody has given up on it are
never seen.
"""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field

from tests.simulation.history import History

SERVICES = ("queue", "catalog", "reservation", "wallet", "gateway")
COPIES = (1, 2)
STALL_S = (20.0, 180.0)
PAUSE_S = (2.0, 120.0)
DOWN_S = (0.5, 45.0)
JUMP_S = (5.0, 120.0)

CLASSES = (
    "request_late",
    "request_lost",
    "request_twice",
    "reply_lost",
    "publish_lost",
    "publish_reply_lost",
    "event_late",
    "event_twice",
    "event_again",
    "event_stalled",
    "event_missed",
    "store_refused",
    "store_reply_lost",
    "store_slow",
)
"""Faults that may happen to any message or any call, each with a rate of its own."""


@dataclass
class Plan:
    """The faults of one seed. Times are seconds from the begin of the storm."""

    rates: dict[str, float] = field(default_factory=dict)
    crashes: list[tuple[str, int]] = field(default_factory=list)
    """(point, which time it is reached): the instance that reaches it dies there."""
    kills: list[tuple[float, str]] = field(default_factory=list)
    pauses: list[tuple[float, str, float]] = field(default_factory=list)
    broker_down: list[tuple[float, float]] = field(default_factory=list)
    broker_lost: list[tuple[float, float]] = field(default_factory=list)
    skews_ms: dict[str, int] = field(default_factory=dict)
    jumps: list[tuple[float, str, int, float]] = field(default_factory=list)
    """(when, instance, by how many ms, for how long)"""


def drawn(seed: int, storm_s: float, clock_skew_s: float, points: tuple[str, ...], *, jumps: bool = False) -> Plan:
    """The plan of a seed. `jumps`: clocks may also leave the bound that the settings promise."""
    chance = random.Random(f"{seed}/plan")
    names = [f"{service}-{copy}" for service in SERVICES for copy in COPIES]
    half_ms = round(clock_skew_s * 500)

    def times(likelihood: float, most: int) -> range:
        return range(chance.randint(1, most) if chance.random() < likelihood else 0)

    def when() -> float:
        return chance.uniform(0, storm_s)

    return Plan(
        rates={name: 10 ** chance.uniform(-3.0, -1.0) for name in CLASSES if chance.random() < 0.5},
        crashes=[(chance.choice(points), chance.choice((1, 1, 2, 3, 5, 8))) for _ in times(0.7, 6)],
        kills=[(when(), chance.choice(names)) for _ in times(0.5, 5)],
        pauses=[(when(), chance.choice(names), chance.uniform(*PAUSE_S)) for _ in times(0.5, 4)],
        broker_down=[(when(), chance.uniform(1, 40)) for _ in times(0.25, 2)],
        broker_lost=[(when(), chance.uniform(0.2, 10)) for _ in times(0.35, 12)],
        skews_ms={name: chance.randint(-half_ms, half_ms) for name in names} if chance.random() < 0.6 else {},
        jumps=[
            (when(), chance.choice(names), round(chance.choice((-1e3, 1e3)) * chance.uniform(*JUMP_S)), when() / 4)
            for _ in times(1.0 if jumps else 0.0, 4)
        ],
    )


class Faults:
    """Deals the faults of a plan out while the storm lasts."""

    def __init__(self, seed: int, plan: Plan, history: History) -> None:
        self.plan = plan
        self.calm = asyncio.Event()
        """Set while nothing goes wrong, before and after the storm."""
        self.calm.set()
        self.counts: Counter[str] = Counter()
        self._history = history
        self._chances = {name: random.Random(f"{seed}/{name}") for name in CLASSES}
        self.chance = random.Random(f"{seed}/faults")
        self._armed = list(plan.crashes)
        self._reached: Counter[str] = Counter()

    @property
    def is_on(self) -> bool:
        return not self.calm.is_set()

    async def lasts(self, seconds: float) -> None:
        """Wait for `seconds`, or until the storm is over."""
        try:
            async with asyncio.timeout(seconds):
                await self.calm.wait()
        except TimeoutError:
            return

    def strikes(self, name: str, subject: str) -> bool:
        """Whether this fault happens to this subject now; counted and written down if it does."""
        rate = self.plan.rates.get(name)
        if rate is None or not self.is_on or self._chances[name].random() >= rate:
            return False
        self.note(name, subject)
        return True

    def seconds(self, name: str, least_s: float, most_s: float) -> float:
        """How long a fault of this class lasts."""
        return self._chances[name].uniform(least_s, most_s)

    def is_fatal(self, point: str, instance: str) -> bool:
        """Whether whoever reaches this point dies of it."""
        if not self.is_on:
            return False
        self._reached[point] += 1
        crash = (point, self._reached[point])
        if crash not in self._armed:
            return False
        self._armed.remove(crash)
        self.note("crash_at_point", f"{instance} {point}")
        return True

    def note(self, name: str, subject: str) -> None:
        self.counts[name] += 1
        self._history.add("fault", subject, name)
