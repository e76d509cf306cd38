"""The table of all runs in docs/load/results.md: one line a run, newest last."""

import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psutil

from loadtest.fresh_system import ROOT

HEAD = """# Load runs

Written by `make load`, newest last; `loadtest/README.md` says what each profile is and how to read this. Counts are
iterations of the whole run, times in ms; *intended* counts from when a request was meant to be sent. A commit with a +
had changes beside it. A profile with words in brackets was shortened or changed: it shows that it runs, and no more.

"""
COLUMNS = (
    "date (UTC)", "commit", "profile", "engine", "machine", "offered / started / completed", "requests/s",
    "p50 / p95 / p99", "intended p95", "shed / failures / outcomes", "CPU ms/request", "generator's core",
    "audit's offences", "verdict",
)  # fmt: skip


def line(identity: Mapping[str, str], found: Mapping[str, float], verdict: str) -> str:
    """One row. `identity` has date, commit, profile, engine and machine."""

    def told(*names: str, digits: int = 0, percent: bool = False) -> str:
        cells = [
            "–" if name not in found else f"{found[name]:.0%}" if percent else f"{found[name]:,.{digits}f}"
            for name in names
        ]
        return " / ".join(cells)

    cells = [
        *(identity[name] for name in ("date", "commit", "profile", "engine", "machine")),
        told("offered", "started", "completed"),
        told("requests_per_s"),
        told("p50_ms", "p95_ms", "p99_ms", digits=1),
        told("intended_p95_ms", digits=1),
        told("refused", "failures", "outcomes"),
        told("cpu_ms_per_request", digits=3),
        told("generator_busy", percent=True),
        told("audit_offences"),
        verdict,
    ]
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |\n"


def append(row: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text(HEAD + f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n")
    with path.open("a") as file:
        file.write(row)


def commit() -> str:
    """The short name of what is checked out; + where files differ from it, – outside of a clone."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    return told.stdout.strip() or "–"


def machine() -> str:
    gib = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} cores, {gib:.0f} GiB, {platform.system()} {platform.machine()}"
