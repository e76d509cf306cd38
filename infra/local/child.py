"""What the supervisor is told about one process, and how it asks a process whether it is ready."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

Probe = Callable[[], Awaitable[bool]]
"""True when ready. May raise OSError, and may take as long as it likes: the supervisor bounds it."""


@dataclass(frozen=True, slots=True)
class Child:
    """One process. `env` comes on top of the supervisor's own environment and wins.

    Layer 0 is ready before any other is started; layers stop one after another, the highest first.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    ready: Probe
    port: int | None = None
    socket: Path | None = None
    layer: int = 1

    @property
    def address(self) -> str:
        return f"port {self.port}" if self.port is not None else f"socket {self.socket}"


@dataclass(frozen=True, slots=True)
class Step:
    """A program that has to end well, within `limit_s` seconds, before the start goes on."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    limit_s: float


def http_ready(port: int, path: str = "/readyz") -> Probe:
    """A probe that is content with status 200 from `port` on loopback."""

    async def probe() -> bool:
        # By hand: the HTTP client costs half a second to import, which every warm start would pay.
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
            return (await reader.readline()).split(b" ")[1:2] == [b"200"]
        finally:
            writer.close()

    return probe
