"""Calls from one service to another, as the caller sees them. Adapters pass `libs.common.testing.upstream_contract`.

`HttpUpstream` (`libs.common.web.upstream_http`) goes over sockets, `MemoryUpstream` stays in the event loop.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from libs.common.errors import DependencyDown


@dataclass(frozen=True, slots=True)
class Reply:
    """What a service answered; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class ReplyLost(DependencyDown):
    """The request was sent and no reply came: it may or may not have been carried out."""


class Upstream(Protocol):
    """One service, as its callers see it."""

    name: str

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def call(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes = b"", timeout_s: float
    ) -> Reply:
        """Send one request; `path` includes the query. Any status is a Reply.

        Raises DependencyDown when nothing was carried out, ReplyLost when that is unknown.
        """
        ...
