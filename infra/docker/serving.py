"""The Kafka, MongoDB and Redis of docker-compose.yml for the time of one command, which is told where they are.

TEST_KAFKA_URL   kafka://127.0.0.1:PORT
TEST_MONGO_URL   mongodb://127.0.0.1:PORT, a replica set of one
TEST_REDIS_URL   redis://127.0.0.1:PORT/0

Kafka and MongoDB tell their clients where they are. So each listens inside its container on the very port it has
outside, which has to be known before it starts.
"""

import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from testcontainers.community.redis import RedisContainer
from testcontainers.core.container import DockerContainer, ExecConfig
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from infra.docker.compose import ROOT, Compose
from libs.common.errors import ConfigError

START_S = 120
REPLICA_SET = ROOT / "infra/docker/replica_set.js"


def serve(command: Sequence[str]) -> int:
    """Run `command` beside the three servers; its exit status."""
    compose = Compose()
    with ExitStack() as stack:
        told = {
            "TEST_KAFKA_URL": stack.enter_context(_kafka(compose)),
            "TEST_MONGO_URL": stack.enter_context(_mongo(compose)),
            "TEST_REDIS_URL": stack.enter_context(_redis(compose)),
        }
        return subprocess.run(command, env={**os.environ, **told}, check=False).returncode


@contextmanager
def _kafka(compose: Compose) -> Iterator[str]:
    port = _free_port()
    moved = {
        "KAFKA_LISTENERS": f"PLAINTEXT://:{port},CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "KAFKA_LOG_DIRS": "/tmp/kafka",  # noqa: S108 (inside the container, and gone with it)
    }
    container = _container(compose, "kafka", port, "Kafka Server started")
    with container.with_envs(**{**compose.environment("kafka"), **moved}):
        yield f"kafka://127.0.0.1:{port}"


@contextmanager
def _mongo(compose: Compose) -> Iterator[str]:
    port = _free_port()
    container = _container(compose, "mongo", port, "Waiting for connections")
    container.with_command([*compose.services["mongo"]["command"], "--port", str(port)])
    container.with_volume_mapping(REPLICA_SET, "/replica_set.js")
    with container:
        script = ["mongosh", "--quiet", "--norc", "--port", str(port), "/replica_set.js"]
        made = container.exec(ExecConfig(script, environment={"MEMBER": f"127.0.0.1:{port}"}))
        if made.exit_code:
            raise ConfigError(f"mongo: {made.output.decode(errors='replace')}")
        yield f"mongodb://127.0.0.1:{port}"


@contextmanager
def _redis(compose: Compose) -> Iterator[str]:
    with RedisContainer(compose.image("redis")).with_command(compose.services["redis"]["command"]) as container:
        yield f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(container.port)}/0"


def _container(compose: Compose, service: str, port: int, says: str) -> DockerContainer:
    ready = LogMessageWaitStrategy(says).with_startup_timeout(START_S)
    return DockerContainer(compose.image(service)).with_bind_ports(port, port).waiting_for(ready)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
