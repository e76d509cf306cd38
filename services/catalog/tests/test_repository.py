"""The cache in a real Redis."""

from collections.abc import Iterator

import pytest

from libs.common.errors import DependencyDown
from libs.common.redis_client import RedisClient
from libs.common.testing.redis_server import RedisServer, served
from services.catalog.repository import RedisCache

pytestmark = pytest.mark.redis


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    yield from served()


async def test_copies_are_kept_replaced_dropped_and_expire(redis_server: RedisServer) -> None:
    redis = RedisClient(redis_server.url)
    cache = RedisCache(redis)
    assert await cache.get("k") is None
    await cache.put("k", b"\x00\xff", 60)
    assert await cache.get("k") == b"\x00\xff"
    await cache.drop("k")
    assert await cache.get("k") is None
    await cache.put("k", b"short", 0.5)
    assert 0 < await redis.call("PTTL", "k") <= 500
    await cache.stop()


async def test_a_redis_that_is_gone_is_said_to_be_down(tmp_path: object) -> None:
    cache = RedisCache(RedisClient(f"unix://{tmp_path}/nothing.sock"))
    with pytest.raises(DependencyDown):
        await cache.get("k")
    await cache.stop()
