"""The way to MongoDB: the one module that knows motor and pymongo.

A write is answered when a majority has it in the journal, a read sees what a majority has. Who loses a compare-and-set
is answered after the winner's write has its majority, so that reading again finds it. `timeoutMS` bounds an operation
as a whole: choosing a server, connecting, the driver's own retries (which MongoDB carries out once), replication.
Beside it pymongo heeds no limit for a single step, so waiting for a free connection is bounded here.
"""

import asyncio
import re
import warnings
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from inspect import isawaitable
from typing import Any, cast

import pymongo
from motor.frameworks import asyncio as motor_threads
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import (
    ConfigurationError,
    DuplicateKeyError,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    WTimeoutError,
)

from libs.common.errors import ConfigError, DependencyDown
from libs.common.storage.ports import AlreadyExists

SCHEMA_VERSION = 1
SERVER_VERSION_MIN = (5, 0)

OPERATION_TIMEOUT_S = 1.5
TURN_TIMEOUT_S = 0.5
"""How long an operation waits for others to finish before it is refused. Both together are what the gateway gives a
read, so that it still hears why."""

INDEX_TIMEOUT_S = 30.0
"""For the first start of a release with a new index. One that takes longer is built by hand beforehand."""

POOL_COUNT_MAX = 50
"""Connections of a process, and operations at once."""

OPTIONS: dict[str, Any] = {
    "w": "majority",
    "journal": True,
    "readConcernLevel": "majority",
    "readPreference": "primary",
    "retryReads": True,
    "retryWrites": True,
    "timeoutMS": round(OPERATION_TIMEOUT_S * 1000),
    # These two are for what runs outside of any operation: watching the servers, and saying goodbye to them.
    "serverSelectionTimeoutMS": 1_000,
    "connectTimeoutMS": 1_000,
    "maxPoolSize": POOL_COUNT_MAX,
}

NO_THREAD = "can't start new thread"
"""What Python's RuntimeError says where the system gives it no thread: motor runs operations in threads."""

UNIQUE_PREFIX = "one_"
"""The index of a unique field is called this and the field: by the name a refused write is told apart."""

_SCHEMA = "schema_version"

Document = dict[str, Any]


class Connection:
    """One process's connections to one database. An address that cannot be is told by `open`, not before."""

    def __init__(self, url: str, database: str, name: str, driver: str) -> None:
        self._url = url
        self._database = database
        self._name = name
        self._driver = driver
        self._client: AsyncMongoClient[Document] | None = None
        self._turns = asyncio.Semaphore(_operations_at_once(driver))

    async def open(self, indexes: Mapping[str, Sequence[Document]]) -> None:
        """Connect, and make the indexes of each collection. Raises ConfigError for what a setting or a permission
        can mend, DependencyDown for what may mend itself."""
        try:
            with _told_at_start():
                self._client = _client(self._driver, self._url, self._name)
                database = self._client[self._database]
                await _check_versions(database)
                with pymongo.timeout(INDEX_TIMEOUT_S):
                    for collection, wanted in indexes.items():
                        await database.command({"createIndexes": collection, "indexes": wanted})
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            # Motor's is an ordinary function that talks to the server; pymongo's is a coroutine.
            await (asyncio.to_thread(client.close) if self._driver == "motor" else client.close())

    @asynccontextmanager
    async def operation(self) -> AsyncIterator[AsyncDatabase[Document]]:
        """The database, for one caller's turn. Raises AlreadyExists for a key that is held, else DependencyDown."""
        client = self._client
        if client is None:
            raise DependencyDown("The store is closed.")
        await self._take_turn()
        try:
            yield client[self._database]
        except DuplicateKeyError as clash:
            raise AlreadyExists(_taken(clash)) from None
        except PyMongoError as error:
            # The name alone: the text has addresses in it, and this sentence is told to clients.
            raise DependencyDown(f"The store does not answer ({type(error).__name__}).", retry_after_s=1) from error
        except RuntimeError as error:
            if NO_THREAD not in str(error):
                raise
            # It stays in motor's queue, for a thread that is free later: as unknown as if the reply had been lost.
            raise DependencyDown("The store does not answer (no memory for a thread).", retry_after_s=1) from error
        finally:
            self._turns.release()

    async def aggregate(self, collection: str, steps: Sequence[Document]) -> list[Document]:
        """Run a pipeline; what comes out of it, which the pipeline has to bound."""
        async with self.operation() as database:
            cursor: Any = database[collection].aggregate(steps)
            cursor = await cursor if isawaitable(cursor) else cursor  # pymongo's has to be awaited, motor's must not be
            found: list[Document] = await cursor.to_list(None)
            return found

    async def _take_turn(self) -> None:
        if not self._turns.locked():
            await self._turns.acquire()
            return
        try:
            async with asyncio.timeout(TURN_TIMEOUT_S):
                await self._turns.acquire()
        except TimeoutError:
            raise DependencyDown("Too many operations wait for the store.", retry_after_s=1) from None


def _client(driver: str, url: str, name: str) -> AsyncMongoClient[Document]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # an option in the URL that would be ignored
            if driver == "pymongo":
                return AsyncMongoClient(url, appname=name, **OPTIONS)
            # Motor's client is pymongo's in all that is used here, but for `close` and `aggregate`.
            return cast("AsyncMongoClient[Document]", AsyncIOMotorClient(url, appname=name, **OPTIONS))
    except (ConfigurationError, UserWarning, ValueError, TypeError) as wrong:
        raise ConfigError(f"STORE_URL: {wrong}") from wrong


def _operations_at_once(driver: str) -> int:
    # Motor runs each operation in a thread; what waits for a thread is seen by no time limit.
    return min(POOL_COUNT_MAX, motor_threads.max_workers) if driver == "motor" else POOL_COUNT_MAX


async def _check_versions(database: AsyncDatabase[Document]) -> None:
    server = await database.command("buildInfo")
    if tuple(server["versionArray"]) < SERVER_VERSION_MIN:
        needed = ".".join(map(str, SERVER_VERSION_MIN))
        raise ConfigError(f"STORE_URL: MongoDB {needed} or later is needed, this is {server['version']}")
    try:
        await database[_SCHEMA].insert_one({"_id": "current", "version": SCHEMA_VERSION})
    except DuplicateKeyError:
        found = (await database[_SCHEMA].find_one({"_id": "current"}) or {}).get("version")
        if found != SCHEMA_VERSION:
            raise ConfigError(
                f"STORE_URL: {database.name} has schema version {found}, this release reads {SCHEMA_VERSION}"
            ) from None


@contextmanager
def _told_at_start() -> Iterator[None]:
    try:
        yield
    except ConfigurationError as wrong:
        raise ConfigError(f"STORE_URL: {wrong}") from wrong
    except OperationFailure as refused:
        if isinstance(refused, ExecutionTimeout | WTimeoutError):
            raise DependencyDown(f"MongoDB does not answer in time: {_reason(refused)}") from refused
        raise ConfigError(f"STORE_URL: MongoDB refuses: {_reason(refused)}") from refused
    except PyMongoError as down:
        raise DependencyDown(f"MongoDB is down: {_reason(down)}") from down


def _reason(error: PyMongoError) -> str:
    """The driver's sentence without the state of everything that it appends."""
    return re.split(r" \(configured |, Timeout: |, full error: ", str(error))[0]


def _taken(clash: DuplicateKeyError) -> str:
    """The field whose key is held. By the index's name, because not every server tells its key pattern."""
    index = re.search(r" index: (\S+) dup key", str((clash.details or {}).get("errmsg", clash)))
    name = index.group(1) if index else "_id_"
    return "id" if name == "_id_" else name.removeprefix(UNIQUE_PREFIX)
