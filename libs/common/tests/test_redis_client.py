"""The Redis client: many callers on one connection, each with its own reply, and every failure said in time."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from libs.common.errors import ConfigError, DependencyDown
from libs.common.redis_client import WAITING_COUNT_MAX, RedisClient, RedisReplied
from libs.common.testing.eventually import eventually
from libs.common.testing.redis_server import RedisServer

pytestmark = pytest.mark.redis


@pytest.fixture
async def redis(own_redis_server: RedisServer) -> AsyncIterator[RedisClient]:
    client = RedisClient(own_redis_server.url)
    yield client
    await client.close()


async def answers(redis: RedisClient) -> bool:
    try:
        await redis.ping()
    except DependencyDown:
        return False
    return True


async def test_each_caller_gets_its_own_reply(redis: RedisClient) -> None:
    async def one(n: int) -> bool:
        await redis.call("SET", f"k{n}", n)
        return bool(await redis.call("GET", f"k{n}") == str(n).encode())

    assert all(await asyncio.gather(*(one(n) for n in range(500))))
    clients = await redis.call("CLIENT", "LIST")
    assert len(clients.splitlines()) == 1


async def test_commands_of_one_turn_go_out_together(redis: RedisClient) -> None:
    await redis.ping()

    async def events() -> int:
        info = (await redis.call("INFO", "stats")).decode()
        return int(info.partition("total_reads_processed:")[2].split()[0])

    before = await events()
    await asyncio.gather(*(redis.call("INCR", "count") for _ in range(200)))
    assert await events() - before <= 3


async def test_an_error_is_its_callers_alone(redis: RedisClient) -> None:
    await redis.call("SET", "text", "x")
    outcomes = await asyncio.gather(
        redis.call("INCR", "a"), redis.call("INCR", "text"), redis.call("INCR", "b"), return_exceptions=True
    )
    assert (outcomes[0], outcomes[2]) == (1, 1)
    assert isinstance(outcomes[1], RedisReplied)
    assert outcomes[1].reason == "ERR"
    with pytest.raises(DependencyDown, match="redis replied: WRONGTYPE"):
        await redis.call_many([("INCR", "c"), ("LPUSH", "text", 1), ("INCR", "c")])
    assert await redis.call("GET", "c") == b"2"
    assert await redis.replies([]) == []


async def test_an_argument_of_a_wrong_type_disturbs_nobody(redis: RedisClient) -> None:
    with pytest.raises(TypeError):
        await redis.call_many([("SET", "k", 1), ("SET", "k", None)])  # type: ignore[list-item]
    assert await redis.call("GET", "k") is None


async def test_a_caller_that_gives_up_leaves_the_connection_in_order(redis: RedisClient) -> None:
    await redis.ping()
    gone = [asyncio.create_task(redis.call("ECHO", "gone")) for _ in range(20)]
    await asyncio.sleep(0)
    for task in gone:
        task.cancel()
    assert await redis.call("ECHO", "here") == b"here"
    await asyncio.gather(*gone, return_exceptions=True)
    assert len((await redis.call("CLIENT", "LIST")).splitlines()) == 1


async def test_a_server_that_hangs_is_given_up_in_time(own_redis_server: RedisServer) -> None:
    redis, other = RedisClient(own_redis_server.url, timeout_s=0.2), RedisClient(own_redis_server.url)
    await redis.ping()
    await other.call("CLIENT", "PAUSE", 600)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    with pytest.raises(DependencyDown, match="redis: no answer in time"):
        await redis.call("SET", "k", 1)
    assert 0.15 < loop.time() - began_s < 0.55
    await eventually(lambda: answers(redis))
    await redis.close()
    await other.close()


async def test_a_restart_fails_what_waits_and_is_then_forgotten(
    own_redis_server: RedisServer, redis: RedisClient
) -> None:
    await redis.call("SET", "k", 1)
    waiting = asyncio.create_task(redis.call("BLPOP", "nothing", 0))
    await asyncio.sleep(0)
    await asyncio.to_thread(own_redis_server.kill)
    with pytest.raises(DependencyDown, match="redis: connection lost"):
        await waiting
    with pytest.raises(DependencyDown, match="redis is down"):
        await redis.ping()
    await asyncio.to_thread(own_redis_server.start)
    await eventually(lambda: answers(redis))
    assert await redis.call("GET", "k") == b"1"


async def test_a_connection_that_is_lost_as_soon_as_it_stands_fails_who_waited_for_it(redis: RedisClient) -> None:
    connection = await redis._connect()
    connection.close("connection lost")
    with pytest.raises(DependencyDown, match="redis: connection lost"):
        await asyncio.wait_for(connection.send([("PING",)]), 3)
    await redis.ping()


async def test_a_command_that_there_is_no_memory_for_leaves_no_reply_to_another(redis: RedisClient) -> None:
    class Full(list[bytes]):
        def extend(self, _more: object) -> None:
            raise MemoryError

    connection = await redis._connect()
    connection._unsent = Full()
    with pytest.raises(MemoryError):
        await redis.call("ECHO", "lost")
    assert await asyncio.gather(*(redis.call("ECHO", str(n)) for n in range(3))) == [b"0", b"1", b"2"]


async def test_what_waits_is_bounded(redis: RedisClient) -> None:
    await redis.ping()
    with pytest.raises(DependencyDown, match="too many commands"):
        await redis.call_many([("PING",)] * (WAITING_COUNT_MAX + 1))
    await redis.ping()


async def test_a_password_and_a_database_are_part_of_the_url(own_redis_server: RedisServer, redis: RedisClient) -> None:
    await redis.call("CONFIG", "SET", "requirepass", "secret")
    path = own_redis_server.url.removeprefix("unix://")
    allowed = RedisClient(f"unix://:secret@{path}?db=3")
    await allowed.call("SET", "k", 1)
    assert b"db=3" in await allowed.call("CLIENT", "LIST")
    await allowed.close()
    refused = RedisClient(f"unix://:wrong@{path}")
    with pytest.raises(DependencyDown, match="WRONGPASS"):
        await refused.ping()
    await refused.close()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://x", "BROKER_URL: 'http' is not a redis URL"),
        ("http://", "not a redis URL"),
        ("redis://h:port", "BROKER_URL: Port could not"),
        ("unix://", "BROKER_URL: unix:// needs the path"),
        ("rediss://h?ssl_ca_certs=/no/such/file", "BROKER_URL: "),
    ],
)
def test_a_wrong_url_is_one_sentence(url: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        RedisClient(url, setting="BROKER_URL")
    assert sentence in str(wrong.value)


async def test_nobody_there_fails_at_once_and_backs_off() -> None:
    redis = RedisClient("unix:///nowhere/redis.sock")
    for _ in range(50):
        with pytest.raises(DependencyDown, match="redis is down"):
            await redis.ping()
    await redis.close()
    with pytest.raises(DependencyDown, match="client closed"):
        await redis.ping()
