"""Fixtures of the library's tests."""

from collections.abc import Iterator

import pytest

from libs.common.testing.redis_server import RedisServer, served


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One server for the whole run: use names of your own in it."""
    yield from served()


@pytest.fixture
def own_redis_server() -> Iterator[RedisServer]:
    """A server that belongs to the test, which may kill it."""
    yield from served()
