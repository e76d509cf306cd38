"""One call at a time for the same thing: whoever asks meanwhile gets the answer that is already on its way."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

V = TypeVar("V")


class SingleFlight(Generic[V]):
    """Running calls by key: no more than there are requests that wait for them, and each ends by its own deadline."""

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Task[V]] = {}

    async def run(self, key: Hashable, call: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """The result of the call under `key`, begun now if none runs. A caller that gives up does not stop it."""
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(call())
            task.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(task)

    def _landed(self, key: Hashable, done: asyncio.Task[V]) -> None:
        del self._running[key]
        if not done.cancelled():
            # Looked at here, because everyone who waited for it may have gone.
            done.exception()
