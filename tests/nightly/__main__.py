"""`make nightly`: everything that takes long, one after another, and at the end which of it passed.

Each is a `make` target with a budget of its own; what runs longer than twice that has failed and is ended. One that
fails does not stop the next. Ctrl-C, SIGTERM or SIGHUP ends the one that runs, and the table tells of those before it.
Exit code 1 when any failed.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
ENDING_S = 60.0
"""For one that is told to end, and for all that it started, to take their systems down."""

GONE_S = 10.0
"""For what was killed to be gone."""

PAUSE_S = 0.2


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
        code, why = 1, f"not over after {2 * long.budget_s:,.0f} s"
    finally:
        _end(process)
    return Result(long.name, code == 0, why, time.monotonic() - began_s)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End whatever still runs of it and of all that it started: politely, then not."""
    try:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        give_up_s = time.monotonic() + ENDING_S
        while _left(process) and time.monotonic() < give_up_s:
            time.sleep(PAUSE_S)
    finally:  # also when somebody does not want to wait for that
        give_up_s = time.monotonic() + GONE_S
        while (left := _left(process)) and time.monotonic() < give_up_s:
            for one in left:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
            time.sleep(PAUSE_S)


def _left(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """What runs in its session. Systems have groups of their own there, and may have outlived who started them."""
    process.poll()  # or it would be there for ever, as a zombie
    left = []
    for one in psutil.process_iter():
        with suppress(ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            if os.getsid(one.pid) == process.pid and one.status() != psutil.STATUS_ZOMBIE:
                left.append(one)
    return left


def main(night: Sequence[Long] = NIGHT) -> int:
    """Run them all, or those before Ctrl-C; 1 when one failed, else 0."""
    console, results = Console(), []
    for long in night:
        console.rule(f"{long.name}: {' '.join(long.command)}")
        began_s = time.monotonic()
        try:
            results.append(run(long))
        except KeyboardInterrupt:
            results.append(Result(long.name, False, "the night was ended", time.monotonic() - began_s))
            break
    table = Table("", "result", "minutes", "why")
    for result in results:
        verdict = {True: "passed", False: "FAILED", None: "passed over"}[result.passed]
        table.add_row(result.name, verdict, f"{result.took_s / 60:.1f}", result.why)
    console.print(table)
    return int(any(result.passed is False for result in results))


def _stop(*_: object) -> None:
    """SIGTERM and SIGHUP as Ctrl-C: the one that runs is in a session of its own, and would outlive this."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGHUP, _stop)
    sys.exit(main())
