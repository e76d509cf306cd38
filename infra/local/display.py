"""What a person or a script sees: plain lines, and on a terminal a live table below them.

One thread writes, fed by a bounded queue: a terminal held with Ctrl-S, or a pipe that nobody reads, must not stop the
supervisor from restarting and ending things. Every line also goes to the supervisor's own log.
"""

import contextlib
import os
import queue
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

LINES_MAX = 1000
REFRESH_S = 0.5
CLOSE_S = 1.0

Rows = Callable[[], Sequence[dict[str, Any]]]


class _Screen(Protocol):
    def line(self, text: str) -> None: ...
    def refresh(self) -> None: ...
    def close(self) -> None: ...


class Display:
    """Takes lines at once; shows them from `start` on."""

    def __init__(self, log: Path) -> None:
        self._log = log.open("a", encoding="utf-8")
        self._lines: queue.Queue[str | None] = queue.Queue(LINES_MAX)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write, name="display", daemon=True)

    def start(self, rows: Rows, *, terminal: bool | None = None) -> None:
        """`rows` gives the live table's rows; it is called in the writing thread and must only read."""
        live = sys.stdout.isatty() if terminal is None else terminal
        self._screen: _Screen = _table(rows) if live else _Plain()
        self._thread.start()

    def say(self, text: str) -> None:
        """One line; dropped on the screen, never in the log, when `LINES_MAX` lines wait already."""
        with contextlib.suppress(OSError):  # a full disk is no reason to stop looking after the services
            self._log.write(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {text}\n")
            self._log.flush()
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(text)

    def close(self) -> bool:
        """Write what is left; False when the screen did not take it within `CLOSE_S` seconds."""
        self._closing.set()
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)
        self._thread.join(CLOSE_S)
        with contextlib.suppress(OSError):
            self._log.close()
        return not self._thread.is_alive()

    def _write(self) -> None:
        # A reader that went away takes the lines with it, never the system.
        with contextlib.suppress(OSError):
            while True:
                try:
                    text = self._lines.get(timeout=REFRESH_S)
                except queue.Empty:
                    if self._closing.is_set():
                        break
                    self._screen.refresh()
                    continue
                if text is None:
                    break
                self._screen.line(text)
            self._screen.close()


class _Plain:
    def line(self, text: str) -> None:
        # Past the buffer of sys.stdout: its lock, held by a stuck write, would break the interpreter's own end.
        os.write(1, text.encode() + b"\n")

    def refresh(self) -> None:
        """Plain lines stay as they are."""

    def close(self) -> None:
        """Nothing is open."""


def _table(rows: Rows) -> _Screen:
    from infra.local.table import LiveTable  # noqa: PLC0415 (rich costs a tenth of a second that scripts need not pay)

    return LiveTable(rows)
