"""The clients of aiokafka as this adapter uses them, and what keeps one alive.

aiokafka tries again on its own, without end and without saying so; its clients can also stay alive and never get
anything any more. So each client has a life inside `keep_alive`: a failure or a life without progress ends it, and the
next one begins with a new client.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.client import ConnectionGroup
from aiokafka.errors import KafkaError
from aiokafka.protocol.group import LeaveGroupRequest

from libs.common.clock import Clock
from libs.common.errors import DependencyDown
from libs.common.log import get_logger
from libs.common.messaging.delivery import backoff_s, error_text

REQUEST_S = 5.0

CLOSE_S = 0.5
"""Time a client gets to close. A broker that is gone would keep it closing; what is left goes with the process."""

FETCH_WAIT_S = 0.2
"""How long the broker holds an empty answer. New messages do not wait for it; a partition that is resumed may."""

METADATA_S = 5.0
"""How old a client's knowledge of partitions and their leaders may be."""

FORGIVEN_S = 60.0
"""A life that lasted so long was a good one: the back-off begins anew after it."""

_log = get_logger(__name__)


class _Faults(logging.Handler):
    """aiokafka logs every try against a broker that is down, ten a second and client. What that means for us is logged
    by its users; only what it did not expect itself is passed on."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            _log.error("fault in aiokafka", message=record.getMessage(), exc_info=record.exc_info)


logging.getLogger("aiokafka").addHandler(_Faults())
logging.getLogger("aiokafka").propagate = False


class Reader(AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka ships no types
    """A consumer that can say goodbye."""

    async def leave(self) -> None:
        """Leave the group, which then shares our partitions at once. By itself a member with a name just stops: the
        library takes it that such a one comes back."""
        coordinator = self._coordinator
        if coordinator is None:
            return
        node, member = coordinator.coordinator_id, coordinator.member_id
        await coordinator.close()  # or it would join again as soon as it is told that it has left
        if node is not None and member:
            await self._client.send(node, LeaveGroupRequest(self._group_id, member), group=ConnectionGroup.COORDINATION)


def reader(servers: tuple[str, ...], name: str, *, request_s: float = REQUEST_S, **options: Any) -> Reader:
    """A consumer, not yet started, that decides nothing by itself: positions and commits are given to it."""
    return Reader(
        bootstrap_servers=list(servers),
        client_id=name,
        request_timeout_ms=round(request_s * 1000),
        fetch_max_wait_ms=round(FETCH_WAIT_S * 1000),
        metadata_max_age_ms=round(METADATA_S * 1000),
        enable_auto_commit=False,
        **{"auto_offset_reset": "none", **options},
    )


@asynccontextmanager
async def bounded(what: str, seconds: float) -> AsyncIterator[None]:
    """Raises DependencyDown for what Kafka refuses, or does not do within `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise DependencyDown(f"kafka did not {what} within {seconds:g} s", retry_after_s=1) from None
    except KafkaError as error:
        raise DependencyDown(f"kafka did not {what}: {error}", retry_after_s=1) from error


async def closed(client: Reader, seconds: float = CLOSE_S, *, leaves: bool = False) -> None:
    """Stop a client, for a bounded time."""
    for step in [client.leave, client.stop] if leaves else [client.stop]:
        try:
            async with asyncio.timeout(seconds):
                await step()
        except (KafkaError, TimeoutError) as error:
            _log.info("kafka client not closed properly", error=error_text(error))


async def keep_alive(clock: Clock, live: Callable[[], Awaitable[None]], tell: Callable[[str], None]) -> None:
    """Await `live` again and again until it returns; `tell` hears why it did not.

    `live` raises KafkaError or DependencyDown when it failed, TimeoutError when it made no progress.
    """
    failures = 0
    while True:
        began_s = clock.monotonic_s()
        try:
            await live()
        except TimeoutError:
            trouble = "nothing came, though there is something"
        except DependencyDown as down:
            trouble = down.detail
        except KafkaError as error:
            trouble = str(error)
        else:
            return
        failures = 1 if clock.monotonic_s() - began_s > FORGIVEN_S else failures + 1
        tell(trouble)
        await clock.sleep(backoff_s(failures))
