"""Talks to one app in memory, as a client would over HTTP: starts it, sends requests, stops it."""

from collections.abc import Mapping
from dataclasses import dataclass
from json import dumps  # orjson refuses integers beyond 64 bits, which a client may send
from types import TracebackType
from typing import Any, Self

import orjson
from aiohttp import web

from libs.common.web.upstream_memory import serve_in_memory


@dataclass(frozen=True, slots=True)
class Answered:
    """A whole response; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def code(self) -> str:
        """The `code` of a problem."""
        return str(self.json["code"])


class AppClient:
    """`async with AppClient(app) as client: await client.call("GET", "/readyz")`."""

    def __init__(self, app: web.Application) -> None:
        self.app = app

    async def __aenter__(self) -> Self:
        self.app.freeze()
        await self.app.startup()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.app.shutdown()
        await self.app.cleanup()

    async def call(
        self, method: str, path: str, json: Any = None, *, headers: Mapping[str, str] | None = None, raw: bytes = b""
    ) -> Answered:
        """Send `json` (or `raw` bytes) and return what came back."""
        body = raw if json is None else dumps(json).encode()
        sent = {"Content-Type": "application/json", **(headers or {})}
        reply = await serve_in_memory(self.app, method, path, sent, body)
        return Answered(reply.status, reply.headers, reply.body)
