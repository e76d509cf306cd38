"""The folder that one running system owns: its lock, its secrets, its logs, its sockets, its marks.

STATE_DIR/lock          held while a supervisor runs; the kernel lets go of it however that ends
          ticket_keys   made once, at random, mode 0600
          sockets       where the unix sockets are, when STATE_DIR is too deep to hold them
          demo.json     which demo data is loaded, written after the load
          logs/ redis/ store/ kafka/ mongo/
"""

import fcntl
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from itertools import product
from pathlib import Path
from typing import IO, Any, ParamSpec, TypeVar

from infra.local.settings import COPIES_MAX, ROOMS, copy_name
from libs.common.errors import ConfigError

LOG_MAX_BYTES = 16 * 1024 * 1024
SOCKET_PATH_MAX_BYTES = 100
"""A unix socket's address has 104 (macOS) to 108 bytes, its end mark included."""

_OWNED = ("demo.json", "kafka", "logs", "mongo", "redis", "sockets", "store", "ticket_keys", "lock")
_SOCKETS = (
    "control.sock",
    "redis.sock",
    *(f"{copy_name(room, number)}.sock" for number, room in product(range(1, COPIES_MAX + 1), ROOMS)),
)
"""Those of the services, too: one that was killed leaves its own behind."""

P = ParamSpec("P")
R = TypeVar("R")


def _says_why(method: Callable[P, R]) -> Callable[P, R]:
    """Turn an OSError into the one sentence that names STATE_DIR."""

    @wraps(method)
    def told(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except OSError as why:
            state: Any = args[0]
            where = why.filename or state.path
            raise ConfigError(
                f"STATE_DIR: {state.path} cannot be used: {where}: {why.strerror}; choose another with STATE_DIR=…"
            ) from None

    return told


class StateDir:
    """Paths under STATE_DIR. Every method raises ConfigError where the folder does not let it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @_says_why
    def prepare(self) -> None:
        """Make what is missing, keep what is there, and set aside logs over `LOG_MAX_BYTES`: under `lock`, because a
        system that runs here is writing them."""
        for folder in (self.path, self.path / "logs", self.path / "redis"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for log in (self.path / "logs").glob("*.log"):
            if log.stat().st_size > LOG_MAX_BYTES:
                log.replace(log.with_suffix(".log.1"))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder against a second supervisor. Raises ConfigError while another one has it."""
        with self._open_lock() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(
                    f"STATE_DIR: a system is already running in {self.path}; stop it, or choose another folder"
                ) from None
            yield

    @_says_why
    def _open_lock(self) -> IO[str]:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return (self.path / "lock").open("a")

    @_says_why
    def ticket_keys(self) -> str:
        """`1:<64 hex digits>`, the same at every start."""
        path = self.path / "ticket_keys"
        if not path.exists():
            descriptor, draft = tempfile.mkstemp(dir=self.path)  # mode 0600; renamed whole, never half written
            with os.fdopen(descriptor, "w") as file:
                file.write(f"1:{secrets.token_hex(32)}\n")
            Path(draft).replace(path)
        return path.read_text().strip()

    def log(self, name: str) -> Path:
        return self.path / "logs" / f"{name}.log"

    @property
    @_says_why
    def sockets(self) -> Path:
        """The folder of the unix sockets, as far as this system has chosen one."""
        record = self.path / "sockets"
        chosen = record.read_text().strip() if record.is_file() else ""
        return Path(chosen) if chosen else self.path  # a disk that was full leaves an empty record

    @_says_why
    def choose_sockets(self) -> None:
        """Fix where the sockets go: STATE_DIR itself, or a short private folder recorded in it."""
        if _fits(self.path):
            (self.path / "sockets").unlink(missing_ok=True)
            return
        known = self.sockets
        if known != self.path and known.is_dir() and known.stat().st_uid == os.getuid():
            return
        temporary = next((Path(root) for root in (tempfile.gettempdir(), "/tmp") if _fits(Path(root, "s" * 20))), None)  # noqa: S108
        if temporary is None:
            raise ConfigError(f"STATE_DIR: {self.path} is too deep for unix sockets; choose a shorter one")
        (self.path / "sockets").write_text(tempfile.mkdtemp(prefix="stagedoor-", dir=temporary) + "\n")

    @_says_why
    def demo_mark(self) -> dict[str, Any] | None:
        """What `mark_demo` wrote, or None before the first load."""
        path = self.path / "demo.json"
        try:
            mark = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except ValueError:
            raise ConfigError(f"STATE_DIR: {path} is damaged; delete it and the demo data is loaded again") from None
        return mark if isinstance(mark, dict) else None

    @_says_why
    def mark_demo(self, mark: dict[str, Any]) -> None:
        draft = self.path / "demo.json.new"
        draft.write_text(json.dumps(mark) + "\n")
        draft.replace(self.path / "demo.json")

    @_says_why
    def close_sockets(self) -> None:
        """Remove the socket files, and the short folder where there is one."""
        where = self.sockets
        for name in _SOCKETS:
            (where / name).unlink(missing_ok=True)
        if where != self.path:
            with suppress(OSError):
                where.rmdir()
            (self.path / "sockets").unlink(missing_ok=True)

    @_says_why
    def owned(self) -> list[Path]:
        """What is there of the things a supervisor puts into STATE_DIR, and nothing else."""
        return [path for name in (*_SOCKETS, *_OWNED) if (path := self.path / name).exists()]

    @_says_why
    def delete(self) -> list[str]:
        """Remove all that is `owned`, then the folder if that leaves it empty; return the names left behind."""
        if self.sockets != self.path:
            self.close_sockets()
        for path in self.owned():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        left = sorted(path.name for path in self.path.iterdir())
        if not left:
            with suppress(OSError):  # a link or a mount point stays, empty
                self.path.rmdir()
        return left


def _fits(folder: Path) -> bool:
    return all(len(os.fsencode(folder / name)) <= SOCKET_PATH_MAX_BYTES for name in _SOCKETS)
