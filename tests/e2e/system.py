"""The product as a user starts it: the supervisor of `make run` as a child process, with its own ports and state."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 12.0
PORTS_PER_SYSTEM = 20


@asynccontextmanager
async def running_system(state_dir: Path, **environment: str) -> AsyncIterator["RunningSystem"]:
    """A system for the time of a block: `async with running_system(path, HOLD_S="2") as system:`."""
    system = await asyncio.to_thread(RunningSystem(state_dir, **environment).start)
    try:
        yield system
    finally:
        await asyncio.to_thread(system.stop)


class RunningSystem:
    """One supervisor and what it runs. Every method blocks: call them in a thread from a test that runs in a loop."""

    def __init__(self, state_dir: Path, **environment: str) -> None:
        self.state_dir = state_dir
        self.port = _free_ports()
        self.url = f"http://127.0.0.1:{self.port}"
        own = {"STATE_DIR": str(state_dir), "PORT": str(self.port), "BROKER_URL": "", "STORE_URL": "", "REDIS_URL": ""}
        self.environment = {**os.environ, "DEMO_USERS": "50", **own, **environment}
        self.output: list[str] = []

    def start(self) -> Self:
        """Start the supervisor and wait until it says that the system is ready."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "infra.local", "run"],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout is not None
        give_up_s = time.monotonic() + READY_TIMEOUT_S
        for line in self._process.stdout:
            self.output.append(line.rstrip())
            if line.startswith("ready "):
                return self
            if time.monotonic() > give_up_s:
                break
        self._process.kill()
        raise AssertionError("the system did not become ready:\n" + "\n".join(self.output))

    def stop(self) -> int:
        """End it as an operator would, if it still runs; its exit code."""
        if self._process.returncode is not None:
            return self._process.returncode
        self._process.send_signal(signal.SIGTERM)
        return self._ended()

    def kill(self) -> None:
        """End the supervisor as a crash would."""
        self._process.kill()
        self._ended()

    def _ended(self) -> int:
        try:
            rest, _ = self._process.communicate(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        self.output += rest.splitlines()
        return self._process.returncode

    def status(self) -> dict[str, dict[str, Any]]:
        """Each process by its name, as `make status` shows it."""
        rows: list[dict[str, Any]] = json.loads(self.act("status", "--json"))
        return {row["name"]: row for row in rows}

    def act(self, *verb: str) -> str:
        """Run one of the operator's verbs from a second process; what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "infra.local", *verb],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        return done.stdout


def _free_ports() -> int:
    """A port with room for a whole system behind it."""
    for candidate in range(21_000 + os.getpid() % 400 * 20, 32_000, PORTS_PER_SYSTEM):
        if all(_is_free(port) for port in range(candidate, candidate + PORTS_PER_SYSTEM)):
            return candidate
    raise AssertionError("no free ports for a system")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
