"""Limits on a process that runs: descriptors, memory, the size of its files.

Only the soft limit is lowered, so whoever may lower it may lift it again. A process that is started anew is without
them: it has those of the supervisor.
"""

import psutil

from libs.common.errors import ConfigError
from loadtest.chaos.actions import place
from loadtest.chaos.actions.place import Needs

LIMITS = (psutil.RLIMIT_NOFILE, psutil.RLIMIT_AS, psutil.RLIMIT_FSIZE) if psutil.LINUX else ()


def needs() -> Needs:
    """Linux: nobody else sets limits of another process."""
    return {} if psutil.LINUX else {"prlimit": "only Linux can set the limits of a process that runs"}


def open_files(service: str, count: int) -> dict[str, int]:
    """At most so many descriptors; those that are open stay. Returns how many are. Undo: `lift`."""
    process = place.process(service)
    _lower(process, psutil.RLIMIT_NOFILE, count)
    return {"open": process.num_fds()}


def memory(service: str, megabytes_more: int) -> dict[str, int]:
    """Only so much more address space than it has now. Returns that limit in bytes. Undo: `lift`."""
    process = place.process(service)
    limit = process.memory_info().vms + megabytes_more * 2**20
    _lower(process, psutil.RLIMIT_AS, limit)
    return {"bytes": limit}


def file_size(service: str, bytes_: int) -> None:
    """No file may be written beyond so many bytes: the nearest to a full disk for one service alone. Undo: `lift`."""
    _lower(place.process(service), psutil.RLIMIT_FSIZE, bytes_)


def lift(service: str) -> None:
    """All limits as the supervisor gave them to it."""
    process = place.process(service)
    parent = process.parent()
    if parent is None:
        raise ConfigError(f"{service} is not a child of a supervisor")
    for limit in LIMITS:
        process.rlimit(limit, parent.rlimit(limit))


def shown(service: str) -> dict[str, int]:
    """The soft limits as they are: descriptors, address space and file size (-1: none)."""
    process = place.process(service)
    return dict(zip(("open_files", "memory", "file_size"), (process.rlimit(limit)[0] for limit in LIMITS), strict=True))


def _lower(process: psutil.Process, limit: int, to: int) -> None:
    _, hard = process.rlimit(limit)
    if hard not in (psutil.RLIM_INFINITY, -1) and to > hard:
        raise ConfigError(f"the limit cannot be above {hard} (given: {to})")
    process.rlimit(limit, (to, hard))
