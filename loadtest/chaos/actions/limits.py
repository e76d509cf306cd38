"""Limits on a process that runs: descriptors, memory, the size of its files.

Only the soft limit is lowered, so whoever may lower it may lift it again. A process that is started anew is without
them: it has those of the supervisor.
"""

import socket
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path

import psutil

from libs.common.errors import ConfigError
from loadtest.chaos.actions import place
from loadtest.chaos.actions.place import Needs

# Not RLIMIT_AS: the C library has reserved more address space than a service ever needs.
LIMITS = (psutil.RLIMIT_NOFILE, psutil.RLIMIT_DATA, psutil.RLIMIT_FSIZE) if psutil.LINUX else ()


FELT_S = 10.0
"""The supervisor asks every 2 s, and waits 1 s for an answer."""

HALF = b"GET / HTTP/1.1\r\nX-A: " + b"x" * 7_000
HALVES_COUNT_MAX = 800
CONNECT_S = 1.0


def needs() -> Needs:
    """Linux: nobody else sets limits of another process."""
    return {} if psutil.LINUX else {"prlimit": "only Linux can set the limits of a process that runs"}


def open_files(service: str) -> dict[str, int]:
    """Not one descriptor more than it has; those that are open stay. Returns how many are. Undo: `lift`.

    Raises ConfigError when its supervisor, who comes with a new connection each time, still gets an answer."""
    process = place.process(service)
    _lower(process, psutil.RLIMIT_NOFILE, _lowest_free(process.pid))
    place.wait_until(lambda: place.row(service)["state"] != "ready", FELT_S, f"{service} cannot take a new connection")
    return {"open": process.num_fds()}


def memory(service: str, megabytes_more: int) -> dict[str, int]:
    """Only so much more memory than it has now, and enough connections with half a request that it needs more than
    that. Returns the limit in bytes. Undo: `lift`.

    Raises ConfigError when it is as ready as before with all of these, so that it was no limit."""
    process = place.process(service)
    limit = process.memory_info().data + megabytes_more * 2**20
    _lower(process, psutil.RLIMIT_DATA, limit)

    def is_felt() -> bool:
        return bool(place.row(service)["state"] != "ready")

    with ExitStack() as held:
        for _ in range(HALVES_COUNT_MAX):
            if is_felt():
                break
            with suppress(OSError):  # it may be about to end
                half = socket.create_connection(("127.0.0.1", place.row(service)["port"]), CONNECT_S)
                held.enter_context(half).sendall(HALF)
        place.wait_until(is_felt, FELT_S, f"{service} has not the memory for all who come")
    return {"bytes": limit}


def file_size(service: str, bytes_: int) -> None:
    """No file may be written beyond so many bytes: the nearest to a full disk for one service alone. Undo: `lift`."""
    _lower(place.process(service), psutil.RLIMIT_FSIZE, bytes_)


def lift(service: str) -> None:
    """All limits as the supervisor gave them to it; one that is being started anew has those already."""
    if place.row(service)["pid"] is None:
        return
    process = place.process(service)
    parent = process.parent()
    if parent is None:
        raise ConfigError(f"{service} is not a child of a supervisor")
    for limit in LIMITS:
        process.rlimit(limit, parent.rlimit(limit))


def shown(service: str) -> dict[str, int]:
    """The soft limits as they are: descriptors, memory and file size (-1: none)."""
    process = place.process(service)
    return dict(zip(("open_files", "memory", "file_size"), (process.rlimit(limit)[0] for limit in LIMITS), strict=True))


def _lowest_free(pid: int) -> int:
    """The number that the next descriptor of a process gets. A limit bounds numbers, and there are holes below the
    highest."""
    taken = {int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir()}
    return next(number for number in count() if number not in taken)


def _lower(process: psutil.Process, limit: int, to: int) -> None:
    _, hard = process.rlimit(limit)
    if hard not in (psutil.RLIM_INFINITY, -1) and to > hard:
        raise ConfigError(f"the limit cannot be above {hard} (given: {to})")
    process.rlimit(limit, (to, hard))
