"""Runs a system of fakes as a process of its own, reads what it says, and finds whatever it leaves behind."""

import contextlib
import os
import pty
import queue
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil

from infra.local.control import ask
from infra.local.system import control_socket

ROOT = Path(__file__).parents[3]
START_S = 30.0
STOP_S = 10.0

_QUIET = (
    "MAKEFLAGS",
    "MAKELEVEL",
    "MFLAGS",
    "MAKEOVERRIDES",
    "REDIS_URL",
    "BROKER_URL",
    "STORE_URL",
    "STATIC_TOKENS",
    "BACKENDS",
    "COPIES",
)
_OFFSETS = (0, *range(10, 18), 20, *range(30, 35))

T = TypeVar("T")


def until(ask_again: Callable[[], T | None], deadline_s: float = STOP_S) -> T:
    """The first answer that is not empty; fails the test when there was none within the deadline."""
    end = time.monotonic() + deadline_s
    while True:
        answer = ask_again()
        if answer:
            return answer
        assert time.monotonic() < end, f"still waiting after {deadline_s:g} s"
        time.sleep(0.05)


def free_port() -> int:
    """A port whose whole family (see `api.md`) is free at the moment."""
    while True:
        first = random.randrange(20_000, 30_000, 20)
        if all(_free(first + offset) for offset in _OFFSETS):
            return first


def _free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def environment(state_dir: Path, **more: str) -> dict[str, str]:
    """The test's own, without what would lead elsewhere; a small demo; fakes that note what they are sent."""
    inherited = {name: value for name, value in os.environ.items() if name not in _QUIET and not name.endswith("_PORT")}
    small = {"DEMO_SCHEDULES": "2", "DEMO_SEATS": "3", "DEMO_USERS": "4", "DEMO_POINTS": "500"}
    own = {"STATE_DIR": str(state_dir), "FAKE_RECORD": str(state_dir.parent / "record")}
    return {**inherited, **small, **own, **more}


def command_line(state_dir: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a verb of the real command line to its end."""
    return subprocess.run(
        [sys.executable, "-m", "infra.local", *words],
        cwd=ROOT,
        env=environment(state_dir, **more),
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )


class FakeSystem:
    """A context manager. `lines` has what it has said so far."""

    def __init__(self, state_dir: Path, argv: Sequence[str] = (), *, terminal: bool = False, **more: str) -> None:
        self.state_dir = state_dir
        self.port = int(more.setdefault("PORT", str(free_port())))
        self.lines: list[str] = []
        self._terminal = terminal
        self._argv = list(argv) or [sys.executable, "-m", "infra.local.tests.fake_system"]
        self._environment: Mapping[str, str] = environment(state_dir, **more)
        self._said: queue.Queue[str] = queue.Queue()

    def __enter__(self) -> "FakeSystem":
        read_end, write_end = pty.openpty() if self._terminal else os.pipe()
        self.process = subprocess.Popen(
            self._argv,
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=write_end,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        os.close(write_end)
        self._reader = threading.Thread(target=self._read, args=(read_end,), daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes():
            process.kill()
        self.process.kill()
        self.process.wait(STOP_S)
        self._reader.join(STOP_S)

    def _read(self, read_end: int) -> None:
        # The end of a terminal is told as an input/output error.
        with os.fdopen(read_end, encoding="utf-8", errors="replace") as said, contextlib.suppress(OSError):
            for line in said:
                self._said.put(line.rstrip("\n"))

    def line(self, text: str, deadline_s: float = START_S) -> str:
        """Wait for the next line that contains `text`."""

        def next_line() -> str | None:
            while not self._said.empty():
                self.lines.append(self._said.get())
                if text in self.lines[-1]:
                    return self.lines[-1]
            return None

        try:
            return until(next_line, deadline_s)
        except AssertionError:
            raise AssertionError(f"no line with {text!r} after {deadline_s:g} s in {self.lines}") from None

    def ready(self) -> "FakeSystem":
        self.line("ready http://")
        return self

    def ask(self, verb: str, service: str | None = None) -> dict[str, Any]:
        return ask(control_socket(self.state_dir), verb, service)

    def row(self, name: str) -> dict[str, Any]:
        rows: list[dict[str, Any]] = self.ask("status")["services"]
        return next(row for row in rows if row["name"] == name)

    def has_new_life(self, name: str, pid: int) -> bool:
        """True when `name` is ready again after its process `pid` was made to end."""
        row = self.row(name)  # asked once: between two answers the old life may end
        return bool(row["state"] == "ready" and row["pid"] not in (None, pid))

    def processes(self) -> list[psutil.Process]:
        """Every living process that was started with this STATE_DIR, whoever its parent is by now."""
        return [process for process in psutil.process_iter() if self._ours(process)]

    def _ours(self, process: psutil.Process) -> bool:
        state = str(self.state_dir)
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            # Redis writes its title over its environment, but works in its data folder.
            return bool(process.environ().get("STATE_DIR") == state or process.cwd() == f"{state}/redis")
        except psutil.Error:
            return False

    def shells(self) -> list[psutil.Process]:
        """The guardian's shell; for a moment after it was killed, none or two."""
        return [process for process in self.processes() if _name(process) == "sh"]

    def all_gone(self, deadline_s: float = STOP_S) -> None:
        until(lambda: not self.processes(), deadline_s)

    def terminate(self) -> int:
        """SIGTERM to the process alone; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)


def _name(process: psutil.Process) -> str:
    """Empty for one that has just ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return str(process.name())
    return ""
