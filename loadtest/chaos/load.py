"""The crowd in a thread of its own, so that an experiment can go about its business meanwhile."""

import asyncio
import random
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import uuid4

import aiohttp

from loadtest.buying.client import TIMEOUT_S, Client
from loadtest.buying.crowd import OUTCOME_MAX_S, Crowd, Scene

START_S = 10.0
OVER_S = OUTCOME_MAX_S + 30.0
"""For everybody to finish, once they are told to: the longest visit is one that waits for its payment's outcome."""


@dataclass
class Load:
    """`start`, then `end`; the crowd's records may be read at any time."""

    urls: Sequence[str]
    token: str
    scene: Scene
    seed: int
    _is_there: threading.Event = field(default_factory=threading.Event)
    _failure: BaseException | None = None

    def start(self) -> None:
        """Raises TimeoutError when nobody arrives."""
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._thread.start()
        if not self._is_there.wait(START_S):
            raise TimeoutError(f"the load did not begin within {START_S:g} s")

    def end(self) -> Crowd:
        """Let everybody finish. Raises what stopped the load before its time."""
        with suppress(RuntimeError):  # a load that failed has closed its loop; why it did is raised below
            self._loop.call_soon_threadsafe(self._until.set)
        self._thread.join(OVER_S)
        if self._failure is not None:
            raise self._failure
        if self._thread.is_alive():
            raise TimeoutError(f"the load did not end within {OVER_S:g} s")
        return self.crowd

    def _run(self) -> None:
        try:
            asyncio.run(self._drive())
        except BaseException as failure:  # noqa: BLE001 (told to whoever ends the load)
            self._failure = failure
        finally:
            self._is_there.set()

    async def _drive(self) -> None:
        self._loop, self._until = asyncio.get_running_loop(), asyncio.Event()
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            chance = random.Random(self.seed)  # noqa: S311 (a load, no secret)
            client = Client(self.urls, self.token, chance, session, prefix=f"{uuid4().hex[:8]}-")
            self.crowd = Crowd(client, self.scene, random.Random(self.seed + 1))  # noqa: S311 (the same)
            self._is_there.set()
            await self.crowd.run(self._until)
