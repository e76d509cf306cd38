"""Requests on their way: from clients to the gateways, and from services to each other.

A request may be late, lost or carried out twice; a reply may be lost after everything was done. Requests overtake each
other because each has a delay of its own. Connections to an instance that dies are cut.
"""

import asyncio
import contextvars
from collections.abc import Coroutine, Mapping
from typing import Any

from libs.common import trace
from libs.common.errors import DependencyDown
from libs.common.web.upstream import Reply, ReplyLost
from libs.common.web.upstream_memory import serve_in_memory
from tests.simulation.faults import COPIES, Faults
from tests.simulation.instances import Instance

USUAL_S = (0.0005, 0.004)
LATE_S = (0.05, 6.0)


class Network:
    """Who serves what, and what happens to the requests. `serving` maps an instance's name to its app's instance."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self.serving: dict[str, Instance] = {}
        self._nobody = contextvars.copy_context()
        self._strays: dict[asyncio.Task[Reply | None], None] = {}

    def target(self, service: str) -> Instance | None:
        """A copy to send to: any that serves, or now and then one that does not."""
        names = [f"{service}-{copy}" for copy in COPIES]
        first = self._faults.chance.choice(names)
        found = self.serving.get(first)
        if found is not None or self._faults.chance.random() < 0.1:
            return found
        return next((self.serving[name] for name in names if name in self.serving), None)

    def nobody(self) -> contextvars.Context:
        """A context that belongs to no instance."""
        return self._nobody.copy()

    async def send(
        self, service: str, method: str, path: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> tuple[Reply, Instance]:
        """The reply and who gave it. Raises DependencyDown when nobody is there, ReplyLost when no reply comes."""
        target = self.target(service)
        if target is None:
            raise DependencyDown(f"The {service} service cannot be reached.", retry_after_s=1)
        what = f"{method} {path} at {target.name}"
        if self._faults.strikes("request_lost", what):
            await asyncio.sleep(timeout_s)
            raise ReplyLost(f"The {service} service did not answer in time.", retry_after_s=1)
        delay_s = self._faults.chance.uniform(*USUAL_S)
        if self._faults.strikes("request_late", what):
            delay_s = self._faults.seconds("request_late", *LATE_S)
        if self._faults.strikes("request_twice", what):
            again_s = self._faults.seconds("request_twice", *LATE_S)
            self._underway(self._carry_out(target, method, path, headers, body, again_s))
        serving = self._underway(self._carry_out(target, method, path, headers, body, delay_s))
        await asyncio.wait({serving}, timeout=timeout_s)
        if not serving.done():
            raise ReplyLost(f"The {service} service did not answer in time.", retry_after_s=1)
        reply = serving.result()
        if reply is None or self._faults.strikes("reply_lost", what):
            raise ReplyLost(f"The connection to the {service} service was cut.", retry_after_s=1)
        return reply, target

    async def _carry_out(
        self, target: Instance, method: str, path: str, headers: Mapping[str, str], body: bytes, delay_s: float
    ) -> Reply | None:
        """The reply, or None when the instance dies before it has answered."""
        await asyncio.sleep(delay_s)
        if not target.is_serving or target.app is None:
            return None
        serving = asyncio.create_task(
            serve_in_memory(target.app, method, path, headers, body), context=target.context.copy()
        )
        await asyncio.wait({serving})
        return None if serving.cancelled() else serving.result()

    def _underway(self, carrying: Coroutine[Any, Any, Reply | None]) -> "asyncio.Task[Reply | None]":
        # Nobody's: what has left a process arrives, whatever becomes of that process.
        task = asyncio.create_task(carrying, context=self.nobody())
        self._strays[task] = None
        task.add_done_callback(self._strays.pop)
        return task


class UpstreamDoor:
    """An `Upstream`, as one instance reaches a service."""

    def __init__(self, network: Network, instance: Instance, service: str) -> None:
        self.name = service
        self._network = network
        self._instance = instance

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def call(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes = b"", timeout_s: float
    ) -> Reply:
        await self._instance.passes()
        sent = {"traceparent": trace.current.get(), "Content-Type": "application/json", **(headers or {})}
        try:
            reply, _ = await self._network.send(self.name, method, path, sent, body, timeout_s)
        finally:
            await self._instance.passes()
        return reply
