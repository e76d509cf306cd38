"""Which store a `STORE_URL` means."""

from pathlib import Path
from urllib.parse import urlsplit

from libs.common.clock import Clock
from libs.common.errors import ConfigError
from libs.common.storage.memory import MemoryStore
from libs.common.storage.ports import Store
from libs.common.storage.sqlite import SqliteStore


def open_store(url: str, service: str, clock: Clock) -> Store:
    """The store of one service, not yet started. `sqlite:///DIR` is relative to the working directory,
    `sqlite:////DIR` absolute; the service's file in it is `<service>.db`."""
    scheme, path = urlsplit(url).scheme, urlsplit(url).path
    if scheme == "memory":
        return MemoryStore(clock)
    if scheme == "sqlite" and path.strip("/"):
        return SqliteStore(Path(path[1:]) / f"{service}.db", clock)
    raise ConfigError(f"STORE_URL: {url!r} is not understood; use sqlite:///DIR or memory://")
