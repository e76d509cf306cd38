"""Where a proxy listens and where it leads: `host:port`, or `unix:/path` for a UNIX socket."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

CONNECT_S = 5.0
READ_LIMIT_BYTES = 64 * 1024
BACKLOG_COUNT = 1_024

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Accept = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_UNIX = "unix:"


def check(address: str) -> str:
    """The address as it is. Raises ValueError for one that is neither `host:port` nor `unix:/path`."""
    host, _, port = address.rpartition(":")
    is_unix = address.startswith(f"{_UNIX}/")
    if not is_unix and not (host and port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError(f"expected host:port or unix:/path (given: {address!r})")
    return address


async def connect(address: str) -> Ends:
    """Raises OSError, TimeoutError after `CONNECT_S` among them."""
    async with asyncio.timeout(CONNECT_S):
        if address.startswith(_UNIX):
            return await asyncio.open_unix_connection(address.removeprefix(_UNIX), limit=READ_LIMIT_BYTES)
        host, _, port = address.rpartition(":")
        return await asyncio.open_connection(host.strip("[]"), int(port), limit=READ_LIMIT_BYTES)


async def listen(address: str, accept: Accept) -> tuple[asyncio.Server, str]:
    """Listen, and the address as others reach it: port 0 becomes a free one. Raises OSError when it cannot be had."""
    if address.startswith(_UNIX):
        path = address.removeprefix(_UNIX)
        server = await asyncio.start_unix_server(accept, path, limit=READ_LIMIT_BYTES, backlog=BACKLOG_COUNT)
        return server, address
    host, _, port = address.rpartition(":")
    server = await asyncio.start_server(
        accept, host.strip("[]"), int(port), limit=READ_LIMIT_BYTES, backlog=BACKLOG_COUNT, reuse_address=True
    )
    return server, f"{host}:{server.sockets[0].getsockname()[1]}"


def forget(address: str) -> None:
    """Remove what a UNIX socket leaves behind in its folder, so that a connection is refused as on a closed port."""
    if address.startswith(_UNIX):
        with suppress(FileNotFoundError):
            Path(address.removeprefix(_UNIX)).unlink()


def will_reset(writer: asyncio.StreamWriter) -> None:
    """Make the close of this end a reset instead of a goodbye. A UNIX socket knows no resets: it just closes."""
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        on, at_once = 1, 0
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, on.to_bytes(4, "little") + at_once.to_bytes(4, "little"))
