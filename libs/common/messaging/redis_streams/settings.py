"""What the parts of the Redis Streams bus share: who they are, what they talk to, and their times."""

from dataclasses import dataclass, field

from libs.common.clock import Clock
from libs.common.events.topics import LISTEN_RETENTION_MS, TOPICS
from libs.common.metrics import CommonMetrics
from libs.common.redis_client import RedisClient

BLOCK_MS = 2_000
"""How long a read waits in Redis for something new."""

READ_TIMEOUT_S = BLOCK_MS / 1000 + 3.0
"""Time limit of the connections that block; well above BLOCK, or every quiet moment would look like an outage."""

READ_COUNT_MAX = 200


@dataclass(frozen=True, slots=True)
class Times:
    """Times of the adapter, so that tests can shorten them."""

    claim_idle_ms: int = 30_000
    """A pending entry nobody touched for this long is taken over from whoever had it."""

    janitor_period_s: float = 5.0
    """Between two looks at lag and trimming."""

    listen_retention_ms: int = LISTEN_RETENTION_MS
    """Age at which a topic without groups is trimmed."""

    group_retention_ms: int = 60_000
    """Age below which nothing is trimmed, finished or not: a topic with groups may have listeners too."""

    stop_grace_s: float = 3.0
    """Time that running handlers get at a stop."""


@dataclass(frozen=True, slots=True)
class Context:
    """One bus instance. `commands` is the shared connection; each blocking reader opens its own by `reader()`."""

    url: str
    instance: str
    clock: Clock
    metrics: CommonMetrics
    commands: RedisClient
    times: Times = field(default_factory=Times)

    def reader(self) -> RedisClient:
        return RedisClient(self.url, timeout_s=READ_TIMEOUT_S, name=f"{self.instance}-reader", setting="BROKER_URL")

    def retention_ms(self, topic: str) -> int:
        """How old an entry of a topic has to be before it may be trimmed."""
        only_listened_to = topic in TOPICS and not TOPICS[topic].groups
        return self.times.listen_retention_ms if only_listened_to else self.times.group_retention_ms
