"""Which event bus a URL stands for. A new broker is a new entry here and nothing else changes."""

from collections.abc import Callable
from urllib.parse import urlsplit

from libs.common.clock import Clock
from libs.common.errors import ConfigError
from libs.common.messaging.memory import MemoryBroker, MemoryBus
from libs.common.messaging.ports import EventBus
from libs.common.metrics import CommonMetrics

Opener = Callable[[str, str, Clock, CommonMetrics], EventBus]

_memory_brokers: dict[str, MemoryBroker] = {}
"""One broker per URL and process: `memory://` is shared by all services in it, `memory://name` apart from that."""


def _memory(url: str, instance: str, clock: Clock, metrics: CommonMetrics) -> EventBus:
    broker = _memory_brokers.setdefault(url, MemoryBroker(clock))
    return MemoryBus(broker, instance, metrics)


def _redis(url: str, instance: str, clock: Clock, metrics: CommonMetrics) -> EventBus:
    from libs.common.messaging.redis_streams.bus import RedisStreamsBus  # noqa: PLC0415  an image for Kafka may lack it

    return RedisStreamsBus(url, instance, clock, metrics)


def _kafka(url: str, instance: str, clock: Clock, metrics: CommonMetrics) -> EventBus:
    # Here and not above: `make run` has five seconds for everything, and would import this five times for nothing.
    from libs.common.messaging.kafka.bus import KafkaBus  # noqa: PLC0415

    return KafkaBus(url, instance, clock, metrics)


SCHEMES: dict[str, Opener] = {
    "redis": _redis,
    "rediss": _redis,
    "unix": _redis,
    "kafka": _kafka,
    "memory": _memory,
}


def open_bus(url: str, instance: str, clock: Clock, metrics: CommonMetrics) -> EventBus:
    """The bus behind BROKER_URL, not yet started; `instance` is unique among the copies of a service.

    Raises ConfigError for a scheme that no adapter is written for, or whose client is not installed.
    """
    scheme = urlsplit(url).scheme
    opener = SCHEMES.get(scheme)
    if opener is None:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise ConfigError(f"BROKER_URL: no broker speaks {scheme or url!r}; there are {known}")
    try:
        return opener(url, instance, clock, metrics)
    except ModuleNotFoundError as missing:
        raise ConfigError(f"BROKER_URL: {scheme}:// needs {missing.name}, which is not installed here") from missing
