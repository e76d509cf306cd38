"""Fixtures of the library's tests."""

import os
from collections.abc import Iterator

import pytest

from libs.common.testing.redis_server import RedisServer, served


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """One server for the whole run, or the one that TEST_REDIS_URL names: use names of your own in it."""
    given = os.environ.get("TEST_REDIS_URL")
    if given:
        yield given
    else:
        yield from (server.url for server in served())


@pytest.fixture
def own_redis_server() -> Iterator[RedisServer]:
    """A server that belongs to the test, which may kill it."""
    yield from served()
