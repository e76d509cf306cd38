"""Which store a `STORE_URL` means."""

from pathlib import Path
from urllib.parse import urlsplit

from libs.common.clock import Clock
from libs.common.errors import ConfigError
from libs.common.storage.memory import MemoryStore
from libs.common.storage.ports import Store


def open_store(url: str, service: str, clock: Clock, mongo_driver: str = "motor") -> Store:
    """The store of one service, not yet started. `sqlite:///DIR` is relative to the working directory,
    `sqlite:////DIR` absolute; the service's file in it is `<service>.db`. `mongodb://HOST/PREFIX` is the database
    `PREFIX_<service>`, or `stagedoor_<service>`; `mongo_driver` is motor or pymongo.

    Raises ConfigError for a scheme that no adapter is written for, or whose client is not installed.
    """
    try:
        return _store(url, service, clock, mongo_driver)
    except ModuleNotFoundError as missing:
        scheme = urlsplit(url).scheme
        raise ConfigError(f"STORE_URL: {scheme}:// needs {missing.name}, which is not installed here") from missing


def _store(url: str, service: str, clock: Clock, mongo_driver: str) -> Store:
    scheme, path = urlsplit(url).scheme, urlsplit(url).path
    if scheme == "memory":
        return MemoryStore(clock)
    if scheme == "sqlite" and path.strip("/"):
        from libs.common.storage.sqlite import SqliteStore  # noqa: PLC0415  an image for MongoDB carries no SQLite

        return SqliteStore(Path(path[1:]) / f"{service}.db", clock)
    if scheme == "mongodb":
        # Importing motor and pymongo takes 0.1 s of CPU, which every service of `make run` would pay at every start.
        from libs.common.storage.mongo.store import MongoStore  # noqa: PLC0415

        return MongoStore(url, service, clock, mongo_driver)
    raise ConfigError(f"STORE_URL: {url!r} is not understood; use mongodb://HOST, sqlite:///DIR or memory://")
