"""One Kafka broker that is its own controller (KRaft), on loopback, for one system or one test run.

Its folder is formatted at its first start. Kafka writes `meta.properties` last, so a folder without it was cut off
while being made and is made anew. The quorum is named in the configuration rather than stored, so that the ports may
differ from start to start.
"""

import asyncio
import json
import struct
from dataclasses import dataclass
from pathlib import Path

from infra.local.child import Child, Probe
from infra.native.provision import Jars

CLUSTER_ID = "c3RhZ2Vkb29yLW5hdGl2ZQ"
"""Sixteen bytes in base64, as Kafka wants them; there is only ever one broker that could tell clusters apart."""

_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "8",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "auto.create.topics.enable": "false",
    # After a kill the broker may register again only when its former self has timed out.
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "400",
}

# The serial collector and the first compiler alone: half the start, and less of two cores, for a broker this small.
_JAVA = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")

# One process from the supervisor's point of view: the shell becomes the broker.
_START = """
set -e
data=$1; shift
[ -f "$data/log/meta.properties" ] || {
  rm -rf "$data/log"
  "$@" kafka.tools.StorageTool format -t "$CLUSTER_ID" -c "$data/server.properties"
}
exec "$@" kafka.Kafka "$data/server.properties"
"""

_METADATA, _METADATA_VERSION, _CORRELATION, _NO_CLIENT, _NO_TOPICS = 3, 1, 1, -1, 0
_ASK_METADATA = struct.pack(">hhihi", _METADATA, _METADATA_VERSION, _CORRELATION, _NO_CLIENT, _NO_TOPICS)


@dataclass(frozen=True, slots=True)
class KafkaPorts:
    """All on loopback. Clients come to `advertised` once they know the broker: a proxy in front of it has to be named
    there, or they go past it. None: the broker itself."""

    broker: int
    controller: int
    advertised: int | None = None


def kafka_url(port: int) -> str:
    return f"kafka://127.0.0.1:{port}"


def kafka_child(jars: Jars, data: Path, ports: KafkaPorts) -> Child:
    """The child named `kafka`. Writes its configuration into `data`, and keeps its log there."""
    broker, controller = f"127.0.0.1:{ports.broker}", f"127.0.0.1:{ports.controller}"
    settings = {
        **_SETTINGS,
        "controller.quorum.voters": f"1@{controller}",
        "listeners": f"PLAINTEXT://{broker},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{ports.advertised or ports.broker}",
        "log.dirs": str(data / "log"),
    }
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    (data / "server.properties").write_text("".join(f"{name}={_escaped(value)}\n" for name, value in settings.items()))
    argv = ("/bin/sh", "-c", _START, "kafka", str(data), jars.java, *_JAVA, "-cp", jars.class_path)
    return Child("kafka", argv, {"CLUSTER_ID": CLUSTER_ID}, _brokers_known(ports.broker), port=ports.broker, layer=0)


def _escaped(value: str) -> str:
    """As Java reads properties, which it takes for Latin-1: a backslash doubled, other letters as in JSON's strings."""
    return json.dumps(value)[1:-1]


def _brokers_known(port: int) -> Probe:
    """A probe that is content when the broker knows itself: it listens a second or two before that."""

    async def probe() -> bool:
        # By hand: the client takes longer to import than this takes to say.
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(struct.pack(">i", len(_ASK_METADATA)) + _ASK_METADATA)
            _, _, brokers = struct.unpack(">iii", await reader.readexactly(12))
            return bool(brokers > 0)
        finally:
            writer.close()

    return probe
