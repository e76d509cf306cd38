"""One copy of a service as a process: its tasks, its clock, its doors to the outside, and its death.

Everything in the loop runs on behalf of an instance or of nobody. Which one follows from the context that asyncio
hands from task to task, so that a crash can end exactly the tasks of one process. From then on every port of the dead
instance refuses its caller: cleaning up is the one thing that kill -9 does not do.
"""

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any

from aiohttp import web

from libs.common.testing.virtual import LoopClock

OWNER: contextvars.ContextVar["Instance | None"] = contextvars.ContextVar("owner", default=None)

TASKS_LOOKED_THROUGH = 512


class Instance:
    """One life of one copy; a restart is a new object. `name` is `service-copy`, `life` counts over all starts."""

    def __init__(self, service: str, copy: int, life: int, skew_ms: int) -> None:
        self.service, self.copy, self.life = service, copy, life
        self.name = f"{service}-{copy}"
        self.is_alive = True
        self.is_held_up = False
        """Paused or dead: whoever goes through a port has to ask `passes`."""
        self.is_serving = False
        self.clock = InstanceClock(self, skew_ms)
        self.context = contextvars.copy_context()
        self.context.run(OWNER.set, self)
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self.app: web.Application | None = None
        self.bus: Any = None
        self._resumed: asyncio.Event | None = None

    async def passes(self) -> None:
        """The gate in every port: waits while the instance is paused, and is where a dead one ends."""
        if self._resumed is not None:
            await self._resumed.wait()
        if not self.is_alive:
            raise asyncio.CancelledError(f"{self.name} is dead")

    def pause(self) -> None:
        if self._resumed is None:
            self._resumed = asyncio.Event()
            self.is_held_up = True

    def resume(self) -> None:
        if self._resumed is not None:
            self._resumed.set()
            self._resumed = None
        self.is_held_up = not self.is_alive

    def own(self, task: asyncio.Task[Any]) -> None:
        if len(self._tasks) >= TASKS_LOOKED_THROUGH:
            self._tasks = {each: None for each in self._tasks if not each.done()}
        self._tasks[task] = None

    def kill(self) -> None:
        """End every task at its next step, without a word to anyone."""
        self.is_alive = self.is_serving = False
        self.resume()
        running = asyncio.current_task()
        for task in self._tasks:
            if task is not running and not task.done():
                task.cancel()


class InstanceClock(LoopClock):
    """The clock of one machine: wrong by a constant, and for a while by more."""

    def __init__(self, instance: Instance, skew_ms: int) -> None:
        super().__init__(skew_ms=skew_ms)
        self.jumped_ms = 0
        self._instance = instance

    def now_ms(self) -> int:
        return super().now_ms() + self.jumped_ms

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if self._instance.is_held_up:
            await self._instance.passes()


def owned_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], context: contextvars.Context | None = None
) -> asyncio.Task[Any]:
    """The task factory of the loop: notes for whom each task works."""
    task = asyncio.Task(coroutine, loop=loop, context=context)
    owner = OWNER.get() if context is None else context.get(OWNER)
    if owner is not None:
        owner.own(task)
    return task
