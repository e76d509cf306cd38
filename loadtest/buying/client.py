"""Calls as an app makes them: every one measured, every answer written down, patience with what may pass.

An app sends a request at most three times, under one key: again after `PAUSES_S`, or as long after as `Retry-After`
asks. Then the person is told that it did not work (`GaveUp`). An answer that says the first sending is still at work
is no failed try; it is waited for.
"""

import asyncio
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, NamedTuple

import aiohttp
import orjson

from loadtest.buying.history import History

TIMEOUT_S = 10.0
PAUSES_S = (2.0, 4.0)
"""Between the first, the second and the third try."""

AT_WORK_PAUSE_S = 0.5
AT_WORK_MAX_S = 20.0
RETRY_AFTER_MAX_S = 10.0
TICKET = "X-Waiting-Token"

NOT_NOW = (429, 500, 502, 503, 504)
LOST, SILENT = "connection lost", f"no answer in {TIMEOUT_S:g} s"


class Seen(NamedTuple):
    """One call. `at_s` is when it was sent (monotonic), `told` the status with the problem's code, or what went wrong
    on the way; an error is what nobody should see while all is well."""

    at_s: float
    took_s: float
    what: str
    told: str
    is_error: bool


@dataclass(frozen=True, slots=True)
class Told:
    """An answer, or what became of the request (`status` 0)."""

    status: int
    body: bytes
    retry_after_s: float
    told: str

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def code(self) -> str:
        """The code of a problem; empty for anything else."""
        return _code(self.body) if self.status >= 400 else ""


class GaveUp(Exception):
    """It did not work at the third try, or for too long: `what` was asked, and what was told last."""

    def __init__(self, what: str, told: str) -> None:
        super().__init__(f"{what}: {told}")


@dataclass
class Client:
    """Goes to the gateways in turn; a person with a ticket of their own stays with one, as a browser's connection
    does. `seen` has every call, `history` every answer. `prefix` tells its keys from those of a crowd that came before
    it: a system that lives on would give that one's answers again."""

    urls: Sequence[str]
    token: str
    chance: random.Random
    session: aiohttp.ClientSession
    prefix: str = ""
    seen: list[Seen] = field(default_factory=list)
    history: History = field(default_factory=History)

    def __post_init__(self) -> None:
        self._in_turn: Iterator[str] = cycle(self.urls)
        self._first_sent_ms: dict[tuple[str, str], int] = {}

    async def call(
        self, what: str, request: tuple[str, str], body: Any = None, *, ticket: str = "", key: str = ""
    ) -> Told:
        """Send once. `request` is method and path below /api/v1; never raises what the network does."""
        method, path = request
        headers = {"Content-Type": "application/json", TICKET: ticket or self.token}
        if key:
            headers["Idempotency-Key"] = f"{self.prefix}{key}"
        url = self._gateway(ticket)
        sent_s, sent_ms = time.monotonic(), _now_ms()
        if key:
            self._first_sent_ms.setdefault((what, key), sent_ms)
        try:
            data = None if body is None else orjson.dumps(body)
            async with self.session.request(method, f"{url}/api/v1{path}", data=data, headers=headers) as reply:
                read = await reply.read()
                told = _told(reply.status, read, reply.headers)
        except TimeoutError:
            told = Told(0, b"", 0.0, SILENT)
        except aiohttp.ClientError:
            told = Told(0, b"", 0.0, LOST)
        took_s = time.monotonic() - sent_s
        is_error = told.status == 0 or told.status in NOT_NOW
        self.seen.append(Seen(sent_s, took_s, what, told.told, is_error))
        if told.status:
            # What a retry is answered may have been decided when the first sending arrived.
            first_ms = self._first_sent_ms.get((what, key), sent_ms)
            self.history.add(method, f"/api/v1{path}", body, headers, (first_ms, _now_ms()), told)
        return told

    async def insist(
        self, what: str, request: tuple[str, str], body: Any = None, *, ticket: str = "", key: str = ""
    ) -> Told:
        """Send until it is answered, at most three times. Raises GaveUp."""
        last = ""
        for pause_s in (*PAUSES_S, None):
            told = await self._answered(what, request, body, ticket=ticket, key=key)
            if told.status and told.status not in NOT_NOW:
                return told
            last = told.told
            if pause_s is not None:
                await asyncio.sleep(max(pause_s, told.retry_after_s) * self.chance.uniform(1.0, 1.1))
        raise GaveUp(what, last)

    async def _answered(self, what: str, request: tuple[str, str], body: Any, *, ticket: str, key: str) -> Told:
        """Once, and as often as the answer is that the same request is at work."""
        give_up_s = time.monotonic() + AT_WORK_MAX_S
        while True:
            told = await self.call(what, request, body, ticket=ticket, key=key)
            if told.code != "REQUEST_IN_PROGRESS" or time.monotonic() > give_up_s:
                return told
            await asyncio.sleep(AT_WORK_PAUSE_S)

    def _gateway(self, ticket: str) -> str:
        return self.urls[sum(ticket.encode()) % len(self.urls)] if ticket else next(self._in_turn)


def _told(status: int, body: bytes, headers: Mapping[str, str]) -> Told:
    wait = headers.get("Retry-After", "")
    retry_after_s = min(float(wait), RETRY_AFTER_MAX_S) if wait.isdigit() else 0.0
    code = _code(body) if status >= 400 else ""
    return Told(status, body, retry_after_s, f"{status} {code}".rstrip())


def _code(body: bytes) -> str:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    return str(found.get("code", "")) if isinstance(found, dict) else ""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
