"""What clients saw, written down for the auditor: `loadtest/audit/README.md` has the format."""

from collections.abc import Mapping
from typing import Any, Protocol

import orjson

from libs.common.ids import fingerprint

BODY_BYTES_MAX = 4_096
"""Longer answers are seat maps, which promise nobody anything."""


class Answer(Protocol):
    """The part of an answer that is kept."""

    @property
    def status(self) -> int: ...

    @property
    def body(self) -> bytes: ...


class History:
    """The completed calls of the clients of one system, a line each."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def add(
        self, method: str, path: str, sent: Any, headers: Mapping[str, str], times_ms: tuple[int, int], reply: Answer
    ) -> None:
        """`sent` is the JSON that was sent, None where there was none; `times_ms` when that was and when it was
        answered."""
        user = sent.get("userId") if isinstance(sent, dict) else None
        call = {
            "sent_ms": times_ms[0],
            "answered_ms": times_ms[1],
            "user": user if type(user) is int and abs(user) < 2**63 else None,
            "ticket": headers.get("X-Waiting-Token"),
            "method": method,
            "path": path.partition("?")[0],
            "key": headers.get("Idempotency-Key"),
            "request": None if sent is None else fingerprint(repr(sent).encode()),
            "status": reply.status,
            "body": _object(reply.body),
        }
        self.lines.append(orjson.dumps(call))


def _object(body: bytes) -> dict[str, Any] | None:
    if not body.startswith(b"{") or len(body) > BODY_BYTES_MAX:
        return None
    found: dict[str, Any] = orjson.loads(body)
    return found
