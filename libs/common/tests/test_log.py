"""Lines that cannot be written, and the one after them."""

import sys
from collections.abc import Iterator
from types import SimpleNamespace

import orjson
import pytest
import structlog

from libs.common import log


class Wire:
    """Standard output that fails as often as it is told to."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.faults: list[Exception] = []

    def write(self, line: bytes) -> None:
        if self.faults:
            raise self.faults.pop()
        self.lines.append(line)

    def flush(self) -> None: ...


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    before, wire = structlog.get_config(), Wire()
    with structlog.contextvars.bound_contextvars(), monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", SimpleNamespace(buffer=wire))
        patched.setattr("logging.basicConfig", lambda **_: None)
        log.configure("test", "test-1")
        yield wire
    structlog.configure(**before)


def test_a_line_that_cannot_be_written_ends_nothing_and_is_counted_in_the_next(wire: Wire) -> None:
    logger = log.get_logger("test")
    wire.faults = [OSError("no space left"), MemoryError()]
    for event in ("lost", "lost too", "heard", "heard too"):
        logger.warning(event)
    heard = [orjson.loads(line) for line in wire.lines]
    assert [(line["event"], line.get("lines_lost")) for line in heard] == [("heard", 2), ("heard too", None)]
