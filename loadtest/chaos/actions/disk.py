"""Disks that are full. A part of the running system's state is moved onto a small tmpfs, which is then filled.

Nobody notices the move but by the restart of the processes that use the part: they are frozen while it is copied and
killed afterwards, so nothing is written in between. Only what was moved can be filled: never the machine's own disk.
"""

import errno
import shutil
import tempfile
from pathlib import Path

from infra.local.settings import ROOMS, state_dir
from libs.common.errors import ConfigError
from loadtest.chaos.actions import place, processes
from loadtest.chaos.actions.place import Needs

PARTS = ("redis", "store", "logs", "kafka")
BALLAST = "ballast"
PROGRAMS = ("mount", "cp")
BLOCK_BYTES = 1 << 16


def needs() -> Needs:
    """Root, and two commands."""
    return place.as_root() or {
        name: f"there is no {name} command on PATH" for name in PROGRAMS if not shutil.which(name)
    }


def shrink(part: str, size_mb: int) -> None:
    """Move `redis`, `store`, `logs` or `kafka` onto a tmpfs of so many MB. Undo: `unshrink`."""
    where = _folder(part)
    if where.is_mount():
        raise ConfigError(f"{where} is on a disk of its own already; unshrink it first")
    users = _users(part)
    try:
        for name in users:
            processes.pause(name)
        with tempfile.TemporaryDirectory(prefix="stagedoor-disk-") as draft:
            place.command("mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=0700", "tmpfs", draft)
            try:
                _copy(where, Path(draft))
                place.command("mount", "--bind", draft, str(where))
            finally:
                place.command("umount", "--lazy", draft)  # else the draft's end would empty what was moved
    finally:
        _start_anew(users, where.is_mount())


def unshrink(part: str) -> None:
    """Move it back to where it was, with all that was written meanwhile; it may be moved back already."""
    where = _folder(part)
    if not where.is_mount():
        return
    clear(part)
    users = _users(part)
    try:
        for name in users:
            processes.pause(name)
        with tempfile.TemporaryDirectory(prefix="stagedoor-disk-") as draft:
            _copy(where, Path(draft))
            place.command("umount", "--lazy", str(where))  # whoever has files open there is killed below
            for old in where.iterdir():
                shutil.rmtree(old) if old.is_dir() else old.unlink()
            _copy(Path(draft), where)
    finally:
        _start_anew(users, True)


def fill(part: str) -> dict[str, int]:
    """Write until nothing more fits; may be repeated when something was freed. Returns the bytes. Undo: `clear`."""
    where = _folder(part)
    if not where.is_mount():
        raise ConfigError(f"{where} is on the machine's own disk; shrink it first")
    block, written = BLOCK_BYTES, 0
    with (where / BALLAST).open("ab", buffering=0) as ballast:
        while block:
            try:
                written += ballast.write(bytes(block))
            except OSError as full:
                if full.errno != errno.ENOSPC:
                    raise
                block //= 2
    return {"bytes": written}


def clear(part: str) -> None:
    """Make room again."""
    (_folder(part) / BALLAST).unlink(missing_ok=True)


def _folder(part: str) -> Path:
    if part not in PARTS:
        raise ConfigError(f"part: expected one of {', '.join(PARTS)} (given: {part!r})")
    where = state_dir() / part
    if not where.is_dir():
        raise ConfigError(f"{where} is not there: this system has no {part} of its own")
    return where


def _users(part: str) -> list[str]:
    """The processes with open files in that part; each one's output goes into its log."""
    names = list(place.rows())
    if part == "store":
        return [name for name in names if name.partition("-")[0] in ROOMS and not name.startswith("gateway")]
    return names if part == "logs" else [part]


def _start_anew(users: list[str], is_moved: bool) -> None:
    """With the files that are there now; or go on as before, when nothing was moved."""
    for name in users:
        if is_moved:
            processes.kill(name)
        else:
            processes.resume(name)
    for name in users:
        processes.wait_ready(name)


def _copy(source: Path, target: Path) -> None:
    """Holes stay holes: Kafka has indexes of 10 MB with next to nothing in them."""
    place.command("cp", "--archive", "--sparse=always", f"{source}/.", str(target))
