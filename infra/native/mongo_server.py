"""The stand-in for MongoDB (see `MongoStandIn.java`), on loopback, for one system or one test run.

It is not MongoDB: no transactions, no change streams, no replication; unique indexes ignore a partial filter; an
unordered bulk reports one insert too many; what survives is what its H2 file holds. Results that rest on it say so.
"""

import asyncio
import struct
from pathlib import Path

from infra.local.child import Child, Probe
from infra.native.provision import Jars

_JAVA = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")

# {"ping": 1, "$db": "admin"} as BSON, in an OP_MSG of one section.
_PING = b"\x10ping\x00" + struct.pack("<i", 1) + b"\x02$db\x00" + struct.pack("<i", 6) + b"admin\x00"
_BODY = struct.pack("<IB", 0, 0) + struct.pack("<i", len(_PING) + 5) + _PING + b"\x00"
_HEADER = struct.Struct("<iiii")
_OP_MSG = 2013
_ASK = _HEADER.pack(_HEADER.size + len(_BODY), 1, 0, _OP_MSG) + _BODY


def mongo_url(port: int, database: str = "") -> str:
    return f"mongodb://127.0.0.1:{port}/{database}".rstrip("/")


def mongo_child(jars: Jars, data: Path, port: int) -> Child:
    """The child named `mongo`; its documents are in one file in `data`."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    argv = (jars.java, *_JAVA, "-cp", jars.class_path, "MongoStandIn", str(port), str(data / "documents.h2"))
    return Child("mongo", argv, env={}, ready=_answers(port), port=port, layer=0)


def _answers(port: int) -> Probe:
    """A probe that is content with any answer to a ping: a process that is stopped listens, but says nothing."""

    async def probe() -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(_ASK)
            _, _, answers, _ = _HEADER.unpack(await reader.readexactly(_HEADER.size))
            return bool(answers == 1)
        finally:
            writer.close()

    return probe
