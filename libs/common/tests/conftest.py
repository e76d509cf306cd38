"""Fixtures of the library's tests."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from libs.common.messaging.kafka.settings import servers_of
from libs.common.testing.kafka_broker import KafkaFarms, kafka_url
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


@pytest.fixture(scope="module")
def broker_url() -> str:
    """The address of a broker; the test is skipped where there is none."""
    return kafka_url()


@pytest.fixture
async def kafka_farms(broker_url: str) -> AsyncIterator[KafkaFarms]:
    farms = KafkaFarms(broker_url)
    yield farms
    await farms.close()


@pytest.fixture
async def kafka_admin(broker_url: str) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=list(servers_of(broker_url)))
    await client.start()
    yield client
    await client.close()
