"""Passing requests on: the ticket is checked, the headers are ours, the reply goes back as it came.

Only what a service needs is passed on, by name. So nothing a client sends can pose as what the gateway verified, and
nothing a service sends leaks by accident.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from libs.common.web.idempotency import HEADER, MADE_HEADER, check_key, new_key
from libs.common.web.upstream import Reply
from services.gateway.service.door import Door
from services.gateway.service.gates import Gates
from services.gateway.service.guarded import GuardedUpstream
from services.gateway.service.limits import Slots
from services.gateway.service.route_table import Route


@dataclass(frozen=True, slots=True)
class Incoming:
    """A client's request, as far as it matters. `path` includes the query; the body is whole."""

    path: str
    address: str
    token: str | None = None
    key: str | None = None
    content_type: str = ""
    body: bytes = b""


class Forwarder:
    """Sends requests to the services behind the gateway. The trace is passed on by the upstream client itself."""

    def __init__(self, door: Door, upstreams: Mapping[str, GuardedUpstream], slots: Slots, gates: Gates) -> None:
        self._door = door
        self._upstreams = upstreams
        self._slots = slots
        self._gates = gates

    async def forward(self, route: Route, incoming: Incoming) -> Reply:
        """The reply of the service, whatever its status. Raises what the door raises, InvalidField for an unusable key,
        Overloaded and DependencyDown."""
        operation = route.operation
        with self._slots.of(operation.priority):
            admission = await self._door.admitted(incoming.token, incoming.address, operation)
            headers = {} if admission is None else admission.headers()
            if operation.is_write:
                headers["Content-Type"] = incoming.content_type
                if incoming.key is None:
                    headers[HEADER], headers[MADE_HEADER] = new_key(), "1"
                else:
                    headers[HEADER] = check_key(incoming.key)
            upstream, gate = self._upstreams[operation.room], self._gates.of(operation.room, operation.priority)
            return await gate.let_through(
                lambda: upstream.call(
                    operation.method, incoming.path, headers=headers, body=incoming.body, timeout_s=route.timeout_s
                )
            )
