"""The auditor, started as a command of its own after a load."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loadtest.errors import CannotRun
from loadtest.fresh_system import ROOT

SETTLE_S = 60.0
"""Longer than PAY_DEADLINE_S: what is under way when the load ends is over by then, one way or the other."""

TIMEOUT_S = 240.0


def audit(variables: Mapping[str, str], live: str, history: Path | None = None) -> int:
    """Offences in the system that is found in this environment, once everything has come to rest. `live` is the URL of
    its gateway. Raises CannotRun when the auditor could not look."""
    command = [sys.executable, "-m", "loadtest.audit", "--json", "--live", live, "--settle-s", str(SETTLE_S)]
    command += [] if history is None else ["--history", str(history)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=dict(variables), capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise CannotRun(f"the audit was not over after {TIMEOUT_S:g} s") from None
    try:
        found: dict[str, Any] = json.loads(done.stdout)
        return int(found["offences"])
    except (ValueError, KeyError):
        raise CannotRun(f"the audit could not look: {done.stderr.strip()}") from None
