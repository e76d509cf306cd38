"""The dead-letter tool on a real broker."""

import asyncio

import pytest
from typer.testing import CliRunner

from libs.common.messaging.dlq import app
from libs.common.messaging.ports import DeadLetter, Message
from libs.common.messaging.redis_streams import entries
from libs.common.messaging.redis_streams.bus import RedisStreamsBus
from libs.common.metrics import CommonMetrics
from libs.common.redis_client import RedisClient
from libs.common.system import SystemClock
from libs.common.testing.redis_server import RedisServer

TOPIC, GROUP = "wallet.payments.v1", "reservation"


async def bury(url: str, count: int) -> None:
    redis = RedisClient(url)
    for n in range(count):
        message = Message(TOPIC, "r-1", f"id-{n}", "PaymentCompleted", "/stagedoor/test", 1_800_000_000_000, b"{broken")
        await redis.call(*entries.bury_command(message, GROUP, b"7-0", "not JSON"))
    await redis.close()


async def left(url: str) -> tuple[list[DeadLetter], int]:
    """The letters, and how many messages are in the topic itself."""
    bus = RedisStreamsBus(url, "test", SystemClock(), CommonMetrics("test"))
    redis = RedisClient(url)
    found = await bus.dead_letters(TOPIC, GROUP, 100), int(await redis.call("XLEN", entries.stream_key(TOPIC)))
    await redis.close()
    await bus.stop()
    return found


@pytest.mark.redis
def test_letters_are_listed_shown_and_replayed(own_redis_server: RedisServer) -> None:
    asyncio.run(bury(own_redis_server.url, 3))
    environment = {"BROKER_URL": own_redis_server.url, "COLUMNS": "200"}

    listed = CliRunner().invoke(app, ["list"], env=environment)
    assert listed.exit_code == 0
    assert "not JSON" in listed.output

    shown = CliRunner().invoke(app, ["show", "--topic", TOPIC, "--limit", "1"], env=environment)
    assert "id-0" in shown.output
    assert "{broken" in shown.output
    assert "id-1" not in shown.output

    tried = CliRunner().invoke(app, ["replay", "--dry-run"], env=environment)
    assert f"{TOPIC} / {GROUP}: 3 would be replayed" in tried.output
    assert len(asyncio.run(left(own_redis_server.url))[0]) == 3

    replayed = CliRunner().invoke(app, ["replay", "--limit", "2", "--rate", "1000"], env=environment)
    assert f"{TOPIC} / {GROUP}: 2 replayed" in replayed.output
    letters, published_count = asyncio.run(left(own_redis_server.url))
    assert [letter.message.id for letter in letters] == ["id-2"]
    assert published_count == 2


@pytest.mark.parametrize(
    ("environment", "arguments", "sentence"),
    [
        ({"BROKER_URL": ""}, ["list"], "BROKER_URL is not set"),
        ({"BROKER_URL": "carrier-pigeon://x"}, ["list"], "no broker speaks 'carrier-pigeon'"),
        ({"BROKER_URL": "memory://"}, ["show", "--topic", "no.such.v1"], "takes from topic no.such.v1"),
        ({"BROKER_URL": "unix:///nowhere/redis.sock"}, ["list"], "redis is down"),
    ],
)
def test_what_cannot_work_is_one_sentence(environment: dict[str, str], arguments: list[str], sentence: str) -> None:
    outcome = CliRunner().invoke(app, arguments, env=environment)
    assert outcome.exit_code == 1
    assert sentence in outcome.output
    assert len(outcome.output.splitlines()) == 1
