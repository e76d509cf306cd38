"""`make nightly`: everything that takes long, one after another, and at the end which of it passed.

Each is a `make` target with a budget of its own; what runs longer than twice that has failed and is ended. One that
fails does not stop the next. Exit code 1 when any failed.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
ENDING_S = 60.0
"""For one that is told to end to take its systems down."""


@dataclass(frozen=True, slots=True)
class Long:
    """A target and its variables. `needs`: commands without which it is passed over, by name."""

    name: str
    command: Sequence[str]
    budget_s: float
    environment: Mapping[str, str] = field(default_factory=dict)
    needs: Sequence[str] = ()


NIGHT = (
    Long("simulate", ("make", "simulate", "SEEDS=10000"), 5_400),
    Long("simulate, clocks jump", ("make", "simulate", "SEEDS=2000", "JUMPS=1", "FIRST=60000"), 1_500),
    Long("mutants", ("make", "mutants"), 5_400),
    Long("fuzz", ("make", "fuzz", "BUDGET_S=1800"), 2_400),
    Long("fuzz, native", ("make", "fuzz", "BUDGET_S=1800"), 3_600, {"E2E_BACKENDS": "native"}, ("java", "mvn")),
    Long("kills", ("make", "kills", "SEEDS=20"), 3_600),
    Long("overload", ("make", "overload"), 400),
    Long("chaos", ("make", "chaos"), 7_200),
    Long("soak", ("make", "load", "PROFILE=soak"), 1_200),
)


@dataclass(frozen=True, slots=True)
class Result:
    """How one ended: `passed` is None for one that was passed over."""

    name: str
    passed: bool | None
    why: str
    took_s: float


def run(long: Long) -> Result:
    """Run one to its end, or to twice its budget."""
    missing = [command for command in long.needs if shutil.which(command) is None]
    if missing:
        return Result(long.name, None, f"needs {' and '.join(missing)}", 0.0)
    began_s = time.monotonic()
    process = subprocess.Popen(long.command, cwd=ROOT, env={**os.environ, **long.environment}, start_new_session=True)
    try:
        code = process.wait(timeout=2 * long.budget_s)
        why = f"exit code {code}" if code else ""
    except subprocess.TimeoutExpired:
        _end(process)
        code, why = 1, f"not over after {2 * long.budget_s:,.0f} s"
    except KeyboardInterrupt:
        _end(process)
        raise
    return Result(long.name, code == 0, why, time.monotonic() - began_s)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End it and all that it started: politely, then not."""
    for wanted in (signal.SIGINT, signal.SIGKILL):
        os.killpg(process.pid, wanted)
        try:
            process.wait(timeout=ENDING_S)
        except subprocess.TimeoutExpired:
            continue
        return


def main(night: Sequence[Long] = NIGHT) -> int:
    """Run them all; 1 when one failed, else 0."""
    console, results = Console(), []
    for long in night:
        console.rule(f"{long.name}: {' '.join(long.command)}")
        results.append(run(long))
    table = Table("", "result", "minutes", "why")
    for result in results:
        verdict = {True: "passed", False: "FAILED", None: "passed over"}[result.passed]
        table.add_row(result.name, verdict, f"{result.took_s / 60:.1f}", result.why)
    console.print(table)
    return int(any(result.passed is False for result in results))


if __name__ == "__main__":
    sys.exit(main())
