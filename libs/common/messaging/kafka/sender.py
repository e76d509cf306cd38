"""Writing to Kafka: idempotent, confirmed by every replica in sync, and bounded in time.

aiokafka's idempotent producer never gives a batch up: it tries for as long as the broker is away, and so does whoever
waits for it. Here a send has a deadline. A producer that missed it, or failed, is dropped with everything it still
holds, and the next send begins with a new one. What was dropped may have arrived all the same; whoever sent it sends it
again, and handlers know an event they had by its id. Nothing is ever taken back because a send timed out.
"""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import ApiVersionRequest

from libs.common.errors import ConfigError, DependencyDown
from libs.common.log import get_logger
from libs.common.messaging.kafka.clients import CLOSE_S, REQUEST_S, bounded
from libs.common.messaging.kafka.records import Outgoing

BATCH_BYTES_MAX = 512 * 1024
"""One batch for a partition; well below the megabyte that a broker takes."""

PRODUCE, PRODUCE_VERSION_MIN = 0, 10
"""A request, and the version of it that came with Kafka 3.7. A broker tells these, and not its own version."""

_log = get_logger(__name__)


class Sender:
    """The producer of one bus instance."""

    def __init__(self, servers: tuple[str, ...], name: str, timeout_s: float) -> None:
        self._servers = servers
        self._name = name
        self._timeout_s = timeout_s
        self._producer: _Producer | None = None
        self._starting = asyncio.Lock()

    async def open(self) -> None:
        """Connect. Raises ConfigError for a broker that is too old, DependencyDown when none answers."""
        async with bounded("answer", self._timeout_s):
            producer = await self._running()
            known = await producer.client.send(producer.client.get_random_node(), ApiVersionRequest())
        if is_too_old(known.api_versions):
            raise ConfigError(f"BROKER_URL: the Kafka at {self._servers[0]} is too old; 3.7 or newer is needed")

    async def send(self, records: Sequence[Outgoing]) -> None:
        """Return when all are confirmed. Raises DependencyDown in bounded time; some may have arrived."""
        producer: _Producer | None = None
        try:
            async with bounded(f"confirm {len(records)} events", self._timeout_s):
                producer = await self._running()
                await _confirmed(producer, records)
        except DependencyDown as down:
            if producer is not None and producer is self._producer:
                _log.warning("producer dropped", error=down.detail)
                await self.close()
            raise

    async def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.drop()

    async def _running(self) -> "_Producer":
        async with self._starting:
            if self._producer is None:
                producer = _Producer(
                    bootstrap_servers=list(self._servers),
                    client_id=self._name,
                    request_timeout_ms=round(REQUEST_S * 1000),
                    enable_idempotence=True,
                    acks="all",
                    linger_ms=0,
                    max_batch_size=BATCH_BYTES_MAX,
                )
                try:
                    await producer.start()
                except BaseException:
                    await producer.drop()
                    raise
                self._producer = producer
            return self._producer


def is_too_old(spoken: Iterable[tuple[int, int, int]]) -> bool:
    """Whether a broker is older than 3.7, by the requests it speaks: each with its oldest and its newest version."""
    return {request: newest for request, _, newest in spoken}.get(PRODUCE, 0) < PRODUCE_VERSION_MIN


async def _confirmed(producer: "_Producer", records: Sequence[Outgoing]) -> None:
    waiting: list[asyncio.Future[Any]] = []
    try:
        # One after the other: `send` only queues, and many that queue at the same time wake each other over and over.
        for record in records:
            confirmation = await producer.send(record.topic, record.value, record.key, headers=record.headers)
            waiting.append(confirmation)
        await asyncio.gather(*waiting)
    finally:
        for confirmation in waiting:
            confirmation.cancel()


class _Producer(AIOKafkaProducer):  # type: ignore[misc]  # aiokafka ships no types
    async def drop(self) -> None:
        """Close now, with what it still holds: `stop` would wait for the broker without end."""
        self._closed = True
        for close in (self._sender.close, self.client.close):
            with suppress(KafkaError, TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await close()
