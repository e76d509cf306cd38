"""The loader: concerts and wallets through internal routes only; every PUT is idempotent, so it may be repeated."""

import asyncio
import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp

from infra.local.problem import told
from libs.common.errors import ConfigError
from libs.common.system import SystemClock

CALLS_MAX = 32
"""Calls under way at once, each on a connection that stays open."""

CALL_S = 30.0
GIVE_UP_S = 60.0
PAUSE_FIRST_S = 0.1
PAUSE_MAX_S = 2.0

_AGAIN = frozenset({429, 500, 502, 503, 504})


class Loader:
    """An async context manager around one HTTP client. Every method raises ConfigError with what the service said."""

    def __init__(self, give_up_s: float = GIVE_UP_S) -> None:
        self._give_up_s = give_up_s
        self._clock = SystemClock()

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CALLS_MAX),
            timeout=aiohttp.ClientTimeout(total=CALL_S),
            headers={"content-type": "application/json"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, why: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._http.close()

    async def put_concert(self, catalog_url: str, concert: Mapping[str, Any]) -> None:
        """The whole venue or nothing; the catalog decides."""
        await self._put(f"{catalog_url}/internal/v1/concerts/{concert['id']}", concert)

    async def put_wallets(self, wallet_url: str, users: int, points: int) -> None:
        """Open the wallets of users 1 to `users` with `points` each, where they are not open already."""
        numbers = iter(range(1, users + 1))

        async def one_line() -> None:
            for user in numbers:
                await self._put(f"{wallet_url}/internal/v1/wallets/{user}", {"amount": points})

        try:
            async with asyncio.TaskGroup() as lines:
                for _ in range(min(CALLS_MAX, users)):
                    lines.create_task(one_line())
        except* ConfigError as refusals:
            first = refusals.exceptions[0]
        else:
            return
        raise first

    async def _put(self, url: str, body: Mapping[str, Any]) -> None:
        data = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
        deadline, pause_s = self._clock.monotonic_s() + self._give_up_s, PAUSE_FIRST_S
        while True:
            refusal, again = await self._try(url, data)
            if refusal is None:
                return
            if not again or self._clock.monotonic_s() + pause_s > deadline:
                raise ConfigError(f"loading stopped: PUT {url}: {refusal}")
            await self._clock.sleep(pause_s)
            pause_s = min(pause_s * 2, PAUSE_MAX_S)

    async def _try(self, url: str, data: bytes) -> tuple[str | None, bool]:
        """What went wrong, or None; and whether trying again can help."""
        try:
            async with self._http.put(url, data=data) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError) as why:
            return str(why) or type(why).__name__, True
        if answer.status < 300:
            return None, False
        return f"{answer.status} {told(text)}", answer.status in _AGAIN
