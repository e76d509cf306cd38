"""Redis loses what it had, or the last of it, or goes back to an earlier day.

Its files are changed while it is frozen, and then it is killed: from its point of view that happened while it was down.
"""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from infra.local.settings import state_dir
from libs.common.errors import ConfigError
from loadtest.chaos.actions import place, processes
from loadtest.chaos.actions.place import Needs

REDIS = "redis"


def needs() -> Needs:
    """Nothing, as long as the system runs its own Redis."""
    return {}


def snapshot() -> dict[str, str]:
    """A copy of all it has stored, in a temporary folder: `path`. Whoever asks for it deletes it."""
    path = tempfile.mkdtemp(prefix="stagedoor-redis-")
    processes.pause(REDIS)
    try:
        shutil.copytree(_folder(), path, dirs_exist_ok=True)
    finally:
        processes.resume(REDIS)
    return {"path": path}


def roll_back(path: str) -> dict[str, float]:
    """Go back to a snapshot; what came after it is gone. Returns the seconds until Redis was ready again.

    Also the undo of `lose` and `tear`, with a snapshot taken before them.
    """
    if not Path(path).is_dir():
        raise ConfigError(f"path: there is no snapshot at {path}")

    def put_back(where: Path) -> None:
        _empty(where)
        shutil.copytree(path, where, dirs_exist_ok=True)

    return _while_down(put_back)


def lose() -> dict[str, float]:
    """All of it. Returns the seconds until Redis was ready again. Undo: `roll_back`."""
    return _while_down(_empty)


def tear(tail_bytes: int) -> dict[str, float]:
    """The last bytes of its log, as after a power cut. Returns the seconds until it was ready. Undo: `roll_back`.
    Raises ConfigError when the log is empty."""

    def cut(where: Path) -> None:
        log = _log(where)
        size_bytes = log.stat().st_size
        if size_bytes == 0:
            raise ConfigError(f"{log} is empty: there is nothing to tear off")
        with log.open("rb+") as file:
            file.truncate(max(0, size_bytes - tail_bytes))

    return _while_down(cut)


def _log(where: Path) -> Path:
    """The append-only file that is written to: one file before Redis 7, the newest of several since."""
    logs = [where / "appendonly.aof", *sorted((where / "appendonlydir").glob("*.incr.aof"), key=_number)]
    there = [log for log in logs if log.is_file()]
    if not there:
        raise ConfigError(f"{where} has no append-only file")
    return there[-1]


def _number(log: Path) -> int:
    """`appendonly.aof.12.incr.aof` → 12."""
    return int(log.name.split(".")[-3])


def _while_down(change: Callable[[Path], None]) -> dict[str, float]:
    where = _folder()
    processes.pause(REDIS)
    try:
        change(where)
    finally:
        processes.kill(REDIS)
    return processes.wait_ready(REDIS)


def _empty(where: Path) -> None:
    for old in where.iterdir():
        shutil.rmtree(old) if old.is_dir() else old.unlink()


def _folder() -> Path:
    place.row(REDIS)
    return state_dir() / REDIS
