"""Writes that may be sent twice: the key a request carries, and the mark that its first sending is still running.

The effect of a write is unique because its id derives from (user, route, key); what this module adds is the answer
409 `REQUEST_IN_PROGRESS` for a twin that arrives while the first is at work in this process. A mark lapses by itself,
so a lost one delays nobody for long.
"""

import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from libs.common.clock import Clock
from libs.common.errors import FieldError, InvalidField, RequestInProgress
from libs.common.ids import fingerprint

HEADER = "Idempotency-Key"
MADE_HEADER = "X-Idempotency-Key-Made"
"""Set by the gateway beside a key that it made for a client who sent none."""

REPLAYED_HEADER = "Idempotent-Replayed"
MARK_LAPSES_S = 10.0
MARKS_MAX = 50_000

_PRINTABLE = re.compile(r"[\x21-\x7e]{1,64}")


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A key and the digest of the body it came with. `made`: by us, so no other request can carry it."""

    value: str
    body_digest: str
    made: bool = False


def check_key(value: str) -> str:
    """The key, if it is 1-64 printable ASCII characters without spaces; InvalidField otherwise."""
    if not _PRINTABLE.fullmatch(value):
        wrong = FieldError(f"header:{HEADER}", "must be 1 to 64 printable characters without spaces")
        raise InvalidField("The Idempotency-Key cannot be used.", errors=[wrong])
    return value


def new_key() -> str:
    """A key nobody else has; random by nature."""
    return secrets.token_hex(16)


def key_from(headers: Mapping[str, str], body: bytes) -> IdempotencyKey:
    """The key of a write; one is made where the caller sent none."""
    given = headers.get(HEADER)
    if given is None:
        return IdempotencyKey(new_key(), fingerprint(body), made=True)
    return IdempotencyKey(check_key(given), fingerprint(body), made=MADE_HEADER in headers)


class RunningWrites:
    """Marks of writes at work in this process, by (user, route, key). Bounded; the oldest mark goes first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._marks: dict[tuple[int, str, str], float] = {}

    @contextmanager
    def mark(self, user: int, route: str, key: str) -> Iterator[None]:
        """Hold the mark while the body of the `with` runs. Raises RequestInProgress when a twin holds it."""
        name, now_s = (user, route, key), self._clock.monotonic_s()
        if self._marks.get(name, 0.0) > now_s:
            raise RequestInProgress("The first request with this key is not finished; try again.", retry_after_s=1)
        while len(self._marks) >= MARKS_MAX:
            del self._marks[next(iter(self._marks))]
        lapses_s = self._marks[name] = now_s + MARK_LAPSES_S
        try:
            yield
        finally:
            if self._marks.get(name) == lapses_s:
                del self._marks[name]
