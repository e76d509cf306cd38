"""What the parts of the Kafka bus share: who they are, what they talk to, their times and their bounds."""

import re
from dataclasses import dataclass

from libs.common.clock import Clock
from libs.common.errors import ConfigError
from libs.common.events.topics import LISTEN_RETENTION_MS, TOPICS
from libs.common.messaging.kafka.cluster import Cluster
from libs.common.messaging.kafka.sender import Sender
from libs.common.metrics import CommonMetrics

POLL_S = 0.5
"""How long a client waits for something new. Also how often it says that it is alive."""

READ_COUNT_MAX = 200

SILENCE_S = 10.0
"""After so long without a poll a consumer or listener is told as down."""

_SERVER = re.compile(r"(?:[\w.-]+|\[[0-9a-fA-F:]+\]):(\d{1,5})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Times:
    """Times of the adapter, so that tests can shorten them."""

    session_s: float = 10.0
    """A member that is not heard of for so long loses its partitions to the others: until then, whoever's events are
    in them waits. Longer than a restart takes."""

    heartbeat_s: float = 1.0
    """Between two heartbeats; a member learns of a rebalance with the next one."""

    rebalance_s: float = 10.0
    """How long the group waits for a member to join anew; well above what giving partitions up may take."""

    drain_s: float = 3.0
    """How long running handlers keep a rebalance waiting, and then the commit of what they finished."""

    put_off_s: float = 5.0
    """A message whose tries are used up comes again after this."""

    stall_s: float = 30.0
    """A client that gets nothing for so long, though there is something, is replaced."""

    look_period_s: float = 5.0
    """Between two looks at lag, stalled clients, lost and grown topics."""

    send_s: float = 5.0
    """How long a publish may take."""

    join_s: float = 5.0
    """How long `subscribe` waits for its partitions before the rest goes on in the background."""

    stop_grace_s: float = 3.0
    """Time that running handlers get at a stop."""


@dataclass(frozen=True, slots=True)
class Context:
    """One bus instance, and what its parts use together."""

    servers: tuple[str, ...]
    instance: str
    clock: Clock
    metrics: CommonMetrics
    cluster: Cluster
    sender: Sender
    times: Times


def servers_of(url: str) -> tuple[str, ...]:
    """`kafka://a:9092,b:9092` → `("a:9092", "b:9092")`. Raises ConfigError for anything else."""
    servers = tuple(url.removeprefix("kafka://").rstrip("/").split(","))
    for server in servers:
        match = _SERVER.fullmatch(server)
        if not url.startswith("kafka://") or match is None or not 0 < int(match[1]) < 65536:
            raise ConfigError(f"BROKER_URL: expected kafka://host:port[,host:port…] (given: {url!r})")
    return servers


def retention_s(topic: str) -> float:
    """How long a topic keeps its messages."""
    return (TOPICS[topic].retention_ms if topic in TOPICS else LISTEN_RETENTION_MS) / 1000
