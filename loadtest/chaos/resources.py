"""What the services of a supervised system use: open files, threads, memory; and what of that stays after a fault.

Redis, Kafka and MongoDB's stand-in are left out: they keep the data of the run, and two of them grow to what Java lets
them have.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from infra.local.control import ask
from infra.local.settings import ROOMS, state_dir
from infra.local.system import control_socket


@dataclass(frozen=True, slots=True)
class Used:
    files: int
    threads: int
    memory_mb: float


def used() -> dict[str, Used]:
    """By the name of the process; one that is not there at the moment is left out."""
    found: dict[str, Used] = {}
    rows = ask(control_socket(state_dir()), "status")["services"]
    for row in (each for each in rows if each["name"].partition("-")[0] in ROOMS):
        try:
            process = psutil.Process(row["pid"])
            with process.oneshot():
                memory_mb = process.memory_info().rss / 2**20
                found[row["name"]] = Used(process.num_fds(), process.num_threads(), memory_mb)
        except (psutil.Error, ValueError, TypeError):
            continue
    return found


def grown(before: Mapping[str, Used], after: Mapping[str, Used]) -> Used:
    """The largest growth of any process, each figure by itself; never below 0."""
    both = [(before[name], after[name]) for name in before.keys() & after.keys()]
    return Used(
        max((now.files - then.files for then, now in both), default=0),
        max((now.threads - then.threads for then, now in both), default=0),
        max((now.memory_mb - then.memory_mb for then, now in both), default=0.0),
    )
