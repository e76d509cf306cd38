"""The product as a user starts it: the supervisor of `make run` as a child process, with its own ports and state.

`E2E_BACKENDS=native` runs every system of these tests on a real Kafka and the stand-in for MongoDB. Before a system is
stopped it has to come to rest, and is audited with all that its clients saw.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

from infra.local.settings import PORTS_PER_COPY
from loadtest.buying.history import History
from loadtest.fresh_system import ports_in_a_row

ROOT = Path(__file__).resolve().parents[2]
BACKENDS = os.environ.get("E2E_BACKENDS", "embedded")
IS_NATIVE = BACKENDS == "native"
BACKEND_NAMES = ("redis", "mongo", "kafka") if IS_NATIVE else ("redis",)
"""The processes below the services."""

WARM_START_S = 15.0 if IS_NATIVE else 5.0
BACK_S = 20.0 if IS_NATIVE else 10.0
"""For any process to be back after a kill, and for everyone to have noticed."""

READY_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 12.0
SETTLE_S = 45.0
"""Longer than PAY_DEADLINE_S: what a test left under way is over by then, one way or the other."""

AUDIT_TIMEOUT_S = SETTLE_S + 30.0

HISTORIES: dict[str, History] = {}
"""What clients saw of each system, by the addresses of its gateways."""

# The times that these tests expect are those of one clock, which the processes of one machine do share.
_USUAL = {"BACKENDS": BACKENDS, "CLOCK_SKEW_S": "0", "DEMO_USERS": "50"}


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
        self.copies = int(environment.get("COPIES", "1"))
        self.port = ports_in_a_row(self.copies * PORTS_PER_COPY)
        self.url = f"http://127.0.0.1:{self.port}"
        self.urls = [f"http://127.0.0.1:{self.port + copy * PORTS_PER_COPY}" for copy in range(self.copies)]
        own = {"STATE_DIR": str(state_dir), "PORT": str(self.port), "BROKER_URL": "", "STORE_URL": "", "REDIS_URL": ""}
        self.environment = {**os.environ, **_USUAL, **own, **environment}
        self.history = History()
        HISTORIES.update(dict.fromkeys(self.urls, self.history))
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
        self.kill()
        raise AssertionError("the system did not become ready:\n" + "\n".join(self.output))

    def stop(self) -> int:
        """Audit it and end it as an operator would, if it still runs; its exit code."""
        if self._process.returncode is not None:
            return self._process.returncode
        audited = self._audited()
        self._process.send_signal(signal.SIGTERM)
        code = self._ended()
        assert audited.returncode == 0, f"the audit ended with {audited.returncode}:\n{audited.stdout}{audited.stderr}"
        return code

    def kill(self) -> None:
        """End the supervisor as a crash would."""
        self._process.kill()
        self._ended()

    def crash(self) -> None:
        """End the supervisor and all that it runs at the same moment, as a machine that loses its power."""
        group = os.getpgid(next(row["pid"] for row in self.status().values() if row["pid"]))
        self._process.kill()
        os.killpg(group, signal.SIGKILL)
        self._ended()

    def _audited(self) -> "subprocess.CompletedProcess[str]":
        seen = self.state_dir.with_name(f"{self.state_dir.name}-history.jsonl")
        seen.write_bytes(b"\n".join(self.history.lines))
        options = ["--history", str(seen), "--live", self.url, "--settle-s", str(SETTLE_S)]
        return subprocess.run(
            [sys.executable, "-m", "loadtest.audit", *options],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=AUDIT_TIMEOUT_S,
            check=False,
        )

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
