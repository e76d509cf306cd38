"""What the services of a supervised system use: open files, tasks, memory; and what of that stays after a fault.

Redis, Kafka and MongoDB's stand-in are left out: they keep the data of the run, and two of them grow to what Java lets
them have.
"""

import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

import psutil

from infra.local.settings import METRICS_PORTS, ROOMS
from loadtest.chaos.actions import place

SCRAPE_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Used:
    files: int
    tasks: int
    memory_mb: float


def used() -> dict[str, Used]:
    """By the name of the process; one that is not there at the moment is left out."""
    found: dict[str, Used] = {}
    for row in (
        each for each in place.rows().values() if each["pid"] is not None and each["name"].partition("-")[0] in ROOMS
    ):
        try:
            process = psutil.Process(row["pid"])
            with process.oneshot():
                memory_mb = process.memory_info().rss / 2**20
                files = process.num_fds()
            found[row["name"]] = Used(files, _tasks(row), memory_mb)
        except (psutil.Error, OSError, HTTPException):
            continue
    return found


def _tasks(row: Mapping[str, Any]) -> int:
    """What a process says of itself on its page of metrics; a gateway's is not on the port of its clients."""
    port = row["port"] + (METRICS_PORTS["gateway"] if row["name"].partition("-")[0] == "gateway" else 0)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=SCRAPE_TIMEOUT_S) as page:
        lines = page.read().decode().splitlines()
    return int(float(next(line for line in lines if line.startswith("stagedoor_tasks ")).split()[1]))


def grown(before: Mapping[str, Used], after: Mapping[str, Used]) -> Used:
    """The largest growth of any process, each figure by itself; below 0 where all of them shrank."""
    both = [(before[name], after[name]) for name in before.keys() & after.keys()]
    return Used(
        max((now.files - then.files for then, now in both), default=0),
        max((now.tasks - then.tasks for then, now in both), default=0),
        max((now.memory_mb - then.memory_mb for then, now in both), default=0.0),
    )
