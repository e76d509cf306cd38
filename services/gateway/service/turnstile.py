"""Refusals before anything is read: a look at the first line of a request, and an answer that is ready.

What is refused costs the gateway a tenth of what the whole way through it does, so that a crowd of four times what the
machine can serve leaves most of its time to those it serves. Everything whose first line says nothing plain goes the
whole way, where slots are asked again, and gates by each call that counts in one (all but those of poll and leave).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from prometheus_client import Histogram

from libs.common import trace
from libs.common.contract.operation import Operation
from libs.common.contract.queue import LEAVE, POLL
from libs.common.errors import Overloaded
from libs.common.web.problems import CONTENT_TYPE, problem_document
from services.gateway.metrics import GatewayMetrics
from services.gateway.service.gates import Gate, Gates
from services.gateway.service.limits import SlotDoor, Slots
from services.gateway.service.pressure import POLLS_FROM_TO, REFUSED_FROM_TO, Pressure, Thinning

RETRY_AFTER_S = 1
PLAIN = rb"[A-Za-z0-9._~-]+"
"""What stands for a name in a path. A path with anything else may need decoding: it goes the whole way."""

_TRACEPARENT = re.compile(rb"\r\ntraceparent: *([0-9a-f-]{55})\r\n", re.IGNORECASE)
_OVERLOADED = Overloaded("Too many requests are being worked on; try again in a moment.", retry_after_s=RETRY_AFTER_S)


@dataclass(frozen=True, slots=True)
class _Way:
    """Where an operation has to pass."""

    slots: SlotDoor
    gate: Gate | None
    thinning: Thinning
    seconds: Histogram


class Turnstile:
    """Asked with every whole request before it is parsed; answers those there is no room for."""

    def __init__(
        self, operations: Sequence[Operation], slots: Slots, gates: Gates, pressure: Pressure, metrics: GatewayMetrics
    ) -> None:
        self._ways = [_way(operation, slots, gates, pressure, metrics) for operation in operations]
        self._pressure = pressure
        metrics.pressure.set_function(pressure.settled_level)
        self._line = re.compile(b"|".join(_first_line(operation) for operation in operations))

    def refusal(self, request: bytes) -> bytes | None:
        """The whole answer to a request that there is no room for; None for one that may go on."""
        found = self._line.match(request)
        if found is None or found.lastindex is None:
            return None
        way = self._ways[found.lastindex - 1]
        self._pressure.notice()
        if way.gate is not None and way.gate.is_full:
            way.gate.note_refusal()
        elif way.slots.is_full or way.thinning.refuses():
            way.slots.note_refusal()
        else:
            return None
        way.seconds.observe(0)
        return _answer(found[found.lastindex], request)


def _way(operation: Operation, slots: Slots, gates: Gates, pressure: Pressure, metrics: GatewayMetrics) -> _Way:
    priority = operation.priority
    # A poll is answered from memory, and who leaves makes room: neither has to wait for those who join.
    gate = None if operation in (POLL, LEAVE) else gates.of(operation.room, priority)
    from_to = POLLS_FROM_TO if operation is POLL else REFUSED_FROM_TO[priority]
    seconds = metrics.http_request_seconds.labels(operation.method, operation.path, str(Overloaded.status))
    return _Way(slots.of(priority), gate, Thinning(pressure, from_to), seconds)


def _first_line(operation: Operation) -> bytes:
    path = re.sub(rb"\\{\w+\\}", lambda _: PLAIN, re.escape(operation.path.encode()))
    return rb"%b (%b)(?:\?[^ ]*)? HTTP/1\.1\r\n" % (operation.method.encode(), path)


def _answer(path: bytes, request: bytes) -> bytes:
    given = _TRACEPARENT.search(request)
    traceparent = given[1].decode() if given and trace.is_valid(given[1].decode()) else trace.fresh()
    return _WRITTEN % (_LENGTH + len(path), path, trace.trace_id(traceparent).encode())


def _template() -> tuple[bytes, int]:
    """The answer with three gaps (length, path, trace), and the length of its body without a path.

    Neither path nor trace needs escaping in JSON: only plain ones come here."""
    document = orjson.dumps(problem_document(_OVERLOADED, "%b", "%b"))
    head = (
        f"HTTP/1.1 {Overloaded.status} Service Unavailable\r\nContent-Type: {CONTENT_TYPE}\r\n"
        f"Retry-After: {RETRY_AFTER_S}\r\nContent-Length: %d\r\n\r\n"
    )
    return head.encode() + document, len(document % (b"", b"0" * 32))


_WRITTEN, _LENGTH = _template()
