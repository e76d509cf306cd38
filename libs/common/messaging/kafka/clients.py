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
from libs.common.messaging.delivery import backoff_s, error_text, kept

REQUEST_S = 5.0

CLOSE_S = 0.5
"""Time a client gets to close. A broker that is gone would keep it closing; what is left goes with the process."""

FETCH_WAIT_S = 0.2
"""How long the broker holds an empty answer. New messages do not wait for it; a partition that is resumed may."""

FETCH_BYTES_MAX = 256 * 1024
"""What a client holds of a partition until it is taken, some hundred messages. A larger batch comes all the same."""

METADATA_S = 5.0
"""How old a client's knowledge of partitions and their leaders may be."""

FORGIVEN_S = 60.0
"""A life that lasted so long was a good one: the back-off begins anew after it."""

_log = get_logger(__name__)

_closing: set["asyncio.Task[None]"] = set()
"""The loop itself does not keep tasks that nobody waits for any more."""


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

    async def drop(self) -> None:
        """Close the connections, which a `stop` that failed half-way leaves open. Whatever waits on them fails."""
        await self._client.close()


def reader(servers: tuple[str, ...], name: str, *, request_s: float = REQUEST_S, **options: Any) -> Reader:
    """A consumer, not yet started, that decides nothing by itself: positions and commits are given to it."""
    return Reader(
        bootstrap_servers=list(servers),
        client_id=name,
        request_timeout_ms=round(request_s * 1000),
        fetch_max_wait_ms=round(FETCH_WAIT_S * 1000),
        metadata_max_age_ms=round(METADATA_S * 1000),
        enable_auto_commit=False,
        **{"auto_offset_reset": "none", "max_partition_fetch_bytes": FETCH_BYTES_MAX, **options},
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
    """Stop a client, for `seconds` a step. One that does not stop is left behind, without its connections.

    A step is a task of its own. aiokafka's `stop` ends cancelled where it finds a fetch that waits to be tried again,
    as after a time-out, and its tasks can eat a cancellation: neither may reach who closes.
    """
    troubles = []
    for step in [client.leave, client.stop, client.drop] if leaves else [client.stop, client.drop]:
        task = asyncio.create_task(step())
        _closing.add(task)
        task.add_done_callback(_ended)
        try:
            await asyncio.wait({task}, timeout=seconds)
        finally:
            task.cancel()
        if not task.done():
            troubles.append(f"{step.__name__} took longer than {seconds:g} s")
        elif task.cancelled():
            troubles.append(f"{step.__name__} was cancelled from inside")
        elif error := task.exception():
            troubles.append(f"{step.__name__}: {error_text(error)}")
    if troubles:
        _log.info("kafka client not closed properly", error="; ".join(troubles))


def _ended(task: "asyncio.Task[None]") -> None:
    _closing.discard(task)
    if not task.cancelled():
        task.exception()  # or one that ends after it was left behind would be told as never looked at


async def keep_alive(
    clock: Clock, live: Callable[[], Awaitable[None]], tell: Callable[[str], None], topic: str
) -> None:
    """Await `live` again and again until it returns; `tell` hears why it did not.

    `live` raises KafkaError or DependencyDown when it failed, TimeoutError when it made no progress. Anything else,
    such as a cancellation that nobody asked for (aiokafka awaits tasks that it has cancelled), is for `kept`.
    """

    async def lives() -> None:
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

    await kept(clock, lives, tell, topic)
