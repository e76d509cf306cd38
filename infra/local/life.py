"""The state of one supervised process, across all its lives."""

import asyncio
import contextlib
import signal
import time
from typing import Any

import psutil

from infra.local.child import Child

BACKOFF_FIRST_S = 0.2
BACKOFF_MAX_S = 5.0
BACKOFF_RESET_S = 30.0


def backoff_after(next_s: float, alive_s: float) -> tuple[float, float]:
    """How long to wait now, and what the next wait would be: doubled, bounded, forgotten after a good life."""
    delay_s = BACKOFF_FIRST_S if alive_s >= BACKOFF_RESET_S else next_s
    return delay_s, min(delay_s * 2, BACKOFF_MAX_S)


def exit_text(code: int) -> str:
    """`exit code 1`, or for a signal `exit code -9 (SIGKILL)`."""
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"exit code {code} ({signal.Signals(-code).name})"
    return f"exit code {code}"


class Life:
    """`state` is starting, ready, unready, waiting (for its restart) or stopped; `status` adds paused."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.state = "waiting"
        self.restarts = 0
        self.false_starts = 0
        self.was_ready = False
        self.line_due = False
        self.restart_wanted = False
        self.log_offset = 0
        self.last_words = ""
        self.pid = 0
        self._process: asyncio.subprocess.Process | None = None
        self._looked: psutil.Process | None = None
        self._began_s = 0.0

    def began(self, process: asyncio.subprocess.Process | None) -> None:
        """`process` is None when it could not even be started."""
        self._process = process
        self.pid = process.pid if process else 0
        self.state = "starting"
        self._began_s = time.monotonic()
        with contextlib.suppress(psutil.Error):
            self._looked = psutil.Process(self.pid) if process else None
            if self._looked:
                self._looked.cpu_percent()  # the first call only begins to count

    def ended(self) -> None:
        self._process = self._looked = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def send(self, number: signal.Signals) -> bool:
        """Signal the process; False when there is none."""
        if self._process is None or not self.running:
            return False
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
            return True
        return False

    def uptime_s(self) -> float:
        return time.monotonic() - self._began_s

    def line(self) -> str:
        """The line a person, or a script, reads: `queue pid 1234 port 8091`."""
        return f"{self.child.name} pid {self.pid} {self.child.address}"

    def status(self) -> dict[str, Any]:
        """For `make status`; `cpuPercent` is of one core, since the last call or the start."""
        row: dict[str, Any] = {
            "name": self.child.name,
            "pid": None,
            "port": self.child.port,
            "state": self.state,
            "restarts": self.restarts,
            "uptimeS": None,
            "rssBytes": None,
            "cpuPercent": None,
        }
        looked = self._looked  # the live table asks from another thread
        if looked is None:
            return row
        row.update(pid=self.pid, uptimeS=round(self.uptime_s(), 1))
        with contextlib.suppress(psutil.Error), looked.oneshot():
            row.update(rssBytes=looked.memory_info().rss, cpuPercent=round(looked.cpu_percent(), 1))
            if looked.status() == psutil.STATUS_STOPPED:
                row["state"] = "paused"
        return row
