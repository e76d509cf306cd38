"""What the services stand on: a Redis always; for BACKENDS=native also a Kafka broker and a stand-in for MongoDB.

Whatever a URL in the environment names is used as it is and not started here.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from infra.local.addresses import check_url
from infra.local.child import Child, Step
from infra.local.redis_server import find_redis_server, redis_child, socket_url
from infra.local.settings import LocalSettings
from infra.local.state import StateDir
from infra.native.kafka_server import KafkaPorts, kafka_child
from infra.native.mongo_server import mongo_child
from infra.native.provision import FETCH_S, planned_jars

TOPICS_S = 60.0


@dataclass(frozen=True, slots=True)
class Backends:
    """Children of layer 0; the steps before they start, and between them and the services; where the services find
    them, by the name of the setting."""

    children: tuple[Child, ...]
    urls: Mapping[str, str]
    before: tuple[Step, ...] = ()
    after: tuple[Step, ...] = ()


async def choose_backends(settings: LocalSettings, state: StateDir) -> Backends:
    """Raises ConfigError with one sentence when something that is needed is not there."""
    await _check_urls(settings)
    children: list[Child] = []
    redis_url = settings.redis_url
    if redis_url is None:
        server_socket = state.sockets / "redis.sock"
        children.append(redis_child(find_redis_server(), server_socket, state.path / "redis"))
        redis_url = socket_url(server_socket)
    broker_url = settings.broker_url or redis_url
    urls = {"REDIS_URL": redis_url, "BROKER_URL": broker_url, "STORE_URL": settings.store_url}
    ports = settings.ports
    if not {"kafka", "mongo"} & ports.keys():
        return Backends(tuple(children), urls)
    jars = planned_jars()
    before = () if jars.are_there else (_module("fetch", ("infra.native", "fetch", "--java-only"), {}, FETCH_S),)
    if "mongo" in ports:
        children.append(mongo_child(jars, state.path / "mongo", ports["mongo"]))
    if "kafka" not in ports:
        return Backends(tuple(children), urls, before)
    kafka = KafkaPorts(ports["kafka"], ports["kafka_controller"], settings.kafka_advertised_port)
    children.append(kafka_child(jars, state.path / "kafka", kafka))
    topics = _module("topics", ("infra.kafka", "topics"), {"BROKER_URL": broker_url}, TOPICS_S)
    return Backends(tuple(children), urls, before, after=(topics,))


async def _check_urls(settings: LocalSettings) -> None:
    """Every address that is somebody else's to answer."""
    if settings.redis_url:
        await check_url("REDIS_URL", settings.redis_url)
    if settings.broker_url and "kafka" not in settings.ports:
        await check_url("BROKER_URL", settings.broker_url)
    if "mongo" not in settings.ports:
        await check_url("STORE_URL", settings.store_url)


def _module(name: str, words: tuple[str, ...], env: Mapping[str, str], limit_s: float) -> Step:
    return Step(name, (sys.executable, "-m", *words), env, limit_s)
