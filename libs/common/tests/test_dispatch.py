"""The dispatcher: to the entry of the event's type, under its trace, with the routing decision as the error's type."""

import pytest

from libs.common import trace
from libs.common.errors import ConfigError, DependencyDown, NotYours, Overloaded, Poison, Transient
from libs.common.events.catalogue import from_message, to_message
from libs.common.events.wallet import PaymentCompleted, PaymentVoided
from libs.common.messaging.dispatch import dispatcher
from libs.common.messaging.memory import MemoryBus
from libs.common.messaging.opening import open_bus
from libs.common.messaging.ports import Message
from libs.common.messaging.redis_streams.bus import RedisStreamsBus
from libs.common.metrics import CommonMetrics
from libs.common.storage.ports import Contended
from libs.common.system import SystemClock

COMPLETED = PaymentCompleted(reservation="r-1", attempt=1, user=7, amount=100, at_ms=1_800_000_000_000)
TRACE = "00-11111111111111111111111111111111-2222222222222222-01"


def told(event: object, traceparent: str = "") -> Message:
    return to_message(event, "e-1", "/stagedoor/test", traceparent)


# The first decoder of a process looks for plugins of pydantic on disk: here, outside of any loop, as settings do.
from_message(told(COMPLETED))


async def test_an_event_goes_to_its_entry_under_its_trace() -> None:
    seen: list[tuple[object, str]] = []

    async def on_completed(event: PaymentCompleted) -> None:
        seen.append((event, trace.current.get()))

    await dispatcher({PaymentCompleted: on_completed})(told(COMPLETED, TRACE))
    assert seen == [(COMPLETED, TRACE)]
    assert trace.current.get() == ""


async def test_known_types_without_an_entry_are_skipped_and_unknown_ones_are_poison() -> None:
    handle = dispatcher({})
    await handle(told(PaymentVoided(reservation="r-1", attempt=1, user=7, at_ms=1)))
    with pytest.raises(Poison, match="unknown event type 'Rumour'"):
        await handle(Message("t", "k", "e-1", "Rumour", "/s", 1, b"{}"))


async def test_what_cannot_be_read_is_poison() -> None:
    async def never(_: PaymentCompleted) -> None:
        raise AssertionError

    with pytest.raises(Poison, match="PaymentCompleted"):
        await dispatcher({PaymentCompleted: never})(
            Message("t", "k", "e", "PaymentCompleted", "/s", 1, b'{"user":"x"}')
        )


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (DependencyDown("store"), Transient),
        (Overloaded("busy"), Transient),
        (Contended("hot"), Transient),
        (Poison("bad"), Poison),
        (NotYours("no"), NotYours),
        (RuntimeError("bug"), RuntimeError),
    ],
)
async def test_the_errors_type_is_the_routing_decision(raised: Exception, expected: type[Exception]) -> None:
    async def fail(_: PaymentCompleted) -> None:
        raise raised

    with pytest.raises(expected):
        await dispatcher({PaymentCompleted: fail})(told(COMPLETED))
    assert trace.current.get() == ""


def test_a_table_names_events_of_the_catalogue_only() -> None:
    async def entry(_: object) -> None: ...

    with pytest.raises(ValueError, match="Message is not in the catalogue"):
        dispatcher({Message: entry})


def test_a_url_opens_its_bus() -> None:
    clock, metrics = SystemClock(), CommonMetrics("test")
    assert isinstance(open_bus("memory://apart", "one", clock, metrics), MemoryBus)
    for url in ("redis://h", "rediss://h", "unix:///run/redis.sock"):
        assert isinstance(open_bus(url, "one", clock, metrics), RedisStreamsBus)
    with pytest.raises(ConfigError, match="BROKER_URL: no broker speaks 'nats'; there are redis://"):
        open_bus("nats://h", "one", clock, metrics)
