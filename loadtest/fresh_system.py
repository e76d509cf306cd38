"""A system of its own for a measurement: `make run` in a temporary state folder, on ports away from the usual ones."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from threading import Timer

import psutil

from infra.local.settings import PORTS_PER_COPY
from infra.local.system import port_is_free
from loadtest.errors import CannotRun

ROOT = Path(__file__).parents[1]
PORT = 18_080
STARTUP_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 15.0


class FreshSystem:
    """A fresh system of `make run` in a temporary state folder, for the time of a `with`. Another command may start
    it, where that behaves the same and takes the same verbs; `variables` is the environment in which they find it.
    Its logs are copied to `logs` when it has ended, whether it became ready or not. It ends with this process, even by
    kill -9. Entering raises CannotRun when it does not become ready."""

    def __init__(
        self,
        environment: dict[str, str],
        *,
        port: int = PORT,
        command: tuple[str, ...] = ("infra.local", "run"),
        logs: Path | None = None,
    ) -> None:
        self._environment = environment
        self._port = port
        self._command = command
        self._logs = logs

    def __enter__(self) -> "FreshSystem":
        self._state = tempfile.TemporaryDirectory(prefix="stagedoor-bench-")
        own = {
            "STATE_DIR": self._state.name,
            "PORT": str(self._port),
            "BROKER_URL": "",
            "STORE_URL": "",
            "REDIS_URL": "",
        }
        self.variables = {**os.environ, **own, **self._environment}
        self._process = subprocess.Popen(
            [sys.executable, "-m", *self._command, "--parent", str(os.getpid())], cwd=ROOT, env=self.variables,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with self._state:
            try:
                self._end()
            finally:
                self._keep_logs()

    def _end(self) -> None:
        with self._process:  # it also closes its pipe, and is waited for once it is killed
            self._process.terminate()
            try:
                self._process.wait(timeout=STOP_TIMEOUT_S)
            finally:
                self._process.kill()

    def _keep_logs(self) -> None:
        written = Path(self._state.name) / "logs"
        if self._logs is not None and written.is_dir():
            shutil.copytree(written, self._logs, dirs_exist_ok=True)

    def _wait_until_ready(self) -> None:
        # Reading has no deadline of its own; with the process the pipe ends, and so does the reading.
        too_late = Timer(STARTUP_TIMEOUT_S, self._process.kill)
        too_late.start()
        try:
            if not any(line.startswith("ready ") for line in self._process.stdout or ()):
                raise CannotRun(f"the system ended, or was not ready within {STARTUP_TIMEOUT_S:g} s")
        finally:
            too_late.cancel()

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds so far, by process."""
        times = {name: process.cpu_times() for name, process in self._processes().items()}
        return {name: time.user + time.system for name, time in times.items()}

    def rss_mb(self) -> dict[str, float]:
        return {name: process.memory_info().rss / 2**20 for name, process in self._processes().items()}

    def _processes(self) -> dict[str, psutil.Process]:
        listed = subprocess.run(
            [sys.executable, "-m", "infra.local", "status", "--json"],
            cwd=ROOT, env=self.variables, capture_output=True, check=True, timeout=20,
        )  # fmt: skip
        return {row["name"]: psutil.Process(row["pid"]) for row in json.loads(listed.stdout)}


def ports_in_a_row(count: int) -> int:
    """The first of so many TCP ports in a row that nobody has, for a system beside other systems.

    Raises CannotRun when there are none.
    """
    for first in range(21_000 + os.getpid() % 250 * 40, 32_000, PORTS_PER_COPY):
        if all(port_is_free(port) for port in range(first, first + count)):
            return first
    raise CannotRun("no free ports for a system of its own")
