"""What clients saw: one JSON object a line for each completed call. README.md has the fields."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from loadtest.audit.doors.ports import CannotRead

FIELDS: dict[str, Any] = {
    "sent_ms": int,
    "answered_ms": int,
    "user": (int, type(None)),
    "ticket": (str, type(None)),
    "method": str,
    "path": str,
    "key": (str, type(None)),
    "request": (str, type(None)),
    "status": int,
    "body": (dict, type(None)),
}


@dataclass(frozen=True, slots=True)
class Call:
    """A request and its answer. `request` is a digest of what was sent; `body` is the JSON object that came back, None
    where there was none or where it was too long to be worth keeping."""

    sent_ms: int
    answered_ms: int
    user: int | None
    ticket: str | None
    method: str
    path: str
    key: str | None
    request: str | None
    status: int
    body: dict[str, Any] | None

    @property
    def is_done(self) -> bool:
        """True for an answer that promises something: 2xx, but for 202."""
        return 200 <= self.status < 300 and self.status != 202

    def __str__(self) -> str:
        return f"{self.method} {self.path} at {self.sent_ms}"


def read_history(path: Path) -> list[Call]:
    """The calls in the order in which they were answered. Raises CannotRead, naming the line."""
    try:
        with path.open("rb") as lines:
            return sorted(_calls(lines, path), key=lambda call: call.answered_ms)
    except OSError as error:
        raise CannotRead(f"{path}: {error.strerror}") from None


def _calls(lines: Any, path: Path) -> Iterator[Call]:
    for number, line in enumerate(lines, 1):
        try:
            found = orjson.loads(line)
            wrong = [name for name, kind in FIELDS.items() if not isinstance(found[name], kind)]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise CannotRead(f"{path}:{number}: not a call: {error}") from None
        if wrong:
            raise CannotRead(f"{path}:{number}: {', '.join(wrong)}: not of the kind that the README asks for")
        yield Call(**{name: found[name] for name in FIELDS})
