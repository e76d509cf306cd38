"""A broker that lost its data is told again, from the outboxes of real files."""

import asyncio
from pathlib import Path

import pytest
from typer.testing import CliRunner

from libs.common.events.topics import WALLET_PAYMENTS
from libs.common.events.wallet import PaymentCompleted
from libs.common.messaging.redis_streams import entries
from libs.common.messaging.retell import BATCH_COUNT_MAX, app
from libs.common.metrics import CommonMetrics
from libs.common.redis_client import RedisClient
from libs.common.storage.folding import Documents
from libs.common.storage.opening import open_store
from libs.common.storage.ports import Collection, Decision
from libs.common.system import SystemClock
from libs.common.testing.redis_server import RedisServer

MORE_THAN_A_BATCH = BATCH_COUNT_MAX + 20
THINGS: Collection[int] = Collection("things", encode=lambda size: {"size": size}, decode=lambda body: body["size"])


async def pay(store_url: str, count: int, *, published: int) -> None:
    """Store so many events in one change, and say of the first ones that a broker has them."""
    store = open_store(store_url, "wallet", SystemClock())
    things = Documents(store, THINGS, "wallet", CommonMetrics("test"), on_stored=lambda _: None)
    await store.start()
    events = [PaymentCompleted(f"r-{n}", attempt=1, user=1, amount=1, at_ms=1) for n in range(count)]
    await things.update("a", lambda _: Decision(None, 1, events))
    stored = await store.unpublished(2**50, count)
    await store.mark_published([message.id for message in stored[:published]])
    await store.stop()


async def told(url: str) -> list[str]:
    """The ids of all events in the topic."""
    redis = RedisClient(url)
    found = await redis.call("XRANGE", entries.stream_key(WALLET_PAYMENTS), "-", "+")
    await redis.close()
    return [entries.message_of(WALLET_PAYMENTS, fields).id for _, fields in found]


@pytest.mark.redis
def test_published_events_are_told_again_and_no_others(own_redis_server: RedisServer, tmp_path: Path) -> None:
    store_url = f"sqlite:///{tmp_path}"
    asyncio.run(pay(store_url, MORE_THAN_A_BATCH + 1, published=MORE_THAN_A_BATCH))
    environment = {"BROKER_URL": own_redis_server.url, "STORE_URL": store_url}

    tried = CliRunner().invoke(app, ["--since-s", "600", "--dry-run"], env=environment)
    assert f"wallet: {MORE_THAN_A_BATCH} events would be told again" in tried.output
    assert asyncio.run(told(own_redis_server.url)) == []

    done = CliRunner().invoke(app, ["--since-s", "600", "--rate", "10000"], env=environment)
    assert f"wallet: {MORE_THAN_A_BATCH} events told again" in done.output
    assert "queue: 0 events told again" in done.output
    assert len(set(asyncio.run(told(own_redis_server.url)))) == MORE_THAN_A_BATCH


@pytest.mark.parametrize(
    ("environment", "arguments", "sentence"),
    [
        ({"BROKER_URL": "memory://", "STORE_URL": ""}, ["--since-s", "9"], "STORE_URL is not set"),
        ({}, ["--since-s", "9", "--service", "gateway"], "'gateway' tells nothing"),
        ({"BROKER_URL": "unix:///nowhere/redis.sock", "STORE_URL": "memory://"}, ["--since-s", "9"], "redis is down"),
    ],
)
def test_what_cannot_work_is_one_sentence(environment: dict[str, str], arguments: list[str], sentence: str) -> None:
    outcome = CliRunner().invoke(app, arguments, env=environment)
    assert outcome.exit_code == 1
    assert sentence in outcome.output
    assert len(outcome.output.splitlines()) == 1
