"""A wired system for the time of a block, and the environment in which actions find it."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.local.settings import PORTS_PER_COPY
from loadtest.fresh_system import ROOT, ports_in_a_row

USUAL = {"DEMO_USERS": "50", "DEMO_SCHEDULES": "2", "CLOCK_SKEW_S": "0"}
STOP_S = 15


@contextmanager
def wired_system(**environment: str) -> Iterator[Path]:
    """Gives its STATE_DIR."""
    with tempfile.TemporaryDirectory(prefix="stagedoor-test-") as state, pytest.MonkeyPatch.context() as ours:
        for name in ("BROKER_URL", "STORE_URL", "REDIS_URL", "CHAOS_CONTROL"):
            ours.delenv(name, raising=False)
        ours.setenv("STATE_DIR", state)
        command = [sys.executable, "-m", "loadtest.chaos.actions.wired_system"]
        own = {**os.environ, **USUAL, "PORT": str(ports_in_a_row(PORTS_PER_COPY)), **environment}
        with subprocess.Popen(command, cwd=ROOT, env=own, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            said = []
            for line in process.stdout:
                said.append(line)
                if line.startswith("ready "):
                    break
            assert said, "it said nothing"
            assert said[-1].startswith("ready "), "".join(said)
            try:
                yield Path(state)
            finally:
                process.terminate()
                process.wait(STOP_S)
