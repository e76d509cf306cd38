"""Documents in one SQLite file per service: the store of the embedded run.

Design. WAL with `synchronous=FULL`: a commit that was answered survives a power cut. One thread writes; it takes all
the writes that wait, up to a bound, and commits them in one transaction (group commit), so that a disk flush is shared
by everyone who waited for it. A write that loses its compare-and-set fails alone; an error of the disk fails the whole
group, and nobody in it was told anything yet. The outbox is a table in the same transaction.
Point reads run straight in the event loop (8 µs; an executor costs four times that); searches run in a reader thread.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import apsw
import orjson

from libs.common import log
from libs.common.clock import Clock
from libs.common.errors import ConfigError, DependencyDown
from libs.common.messaging.ports import Message
from libs.common.storage.ports import AlreadyExists, Body, Collection, Stale, Versioned, Where

R = TypeVar("R")

SCHEMA_VERSION = 1
GROUP_COUNT_MAX = 256
"""Writes in one transaction: bounds how long the last of them waits for the first."""

WRITES_WAITING_MAX = 20_000
BUSY_TIMEOUT_MS = 2_000
START_STOP_TIMEOUT_S = 10.0

_COLUMN_PREFIX = "field_"

_OUTBOX_SQL = """
CREATE TABLE IF NOT EXISTS outbox (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, topic TEXT NOT NULL, key TEXT NOT NULL, type TEXT NOT NULL,
    source TEXT NOT NULL, time_ms INTEGER NOT NULL, data BLOB NOT NULL, traceparent TEXT NOT NULL,
    stored_ms INTEGER NOT NULL, published INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS outbox_by_state ON outbox (published, stored_ms);
"""
_INSERT_EVENT = (
    "INSERT INTO outbox (id, topic, key, type, source, time_ms, data, traceparent, stored_ms)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

logger = log.get_logger(__name__)


@dataclass(slots=True)
class _Write:
    """One write of a group: what to do within the transaction, and whom to tell."""

    act: Callable[[apsw.Cursor], Any]
    outcome: asyncio.Future[Any]


class SqliteStore:
    """A `Store` in the file `path`."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self.clock = clock
        self._collections: dict[str, SqliteCollection] = {}
        self._writes: SimpleQueue[_Write | None] = SimpleQueue()
        self._writer: threading.Thread | None = None
        self._searcher: ThreadPoolExecutor | None = None
        self._reading: apsw.Connection | None = None
        self._searching: apsw.Connection | None = None

    def collection(self, declared: Collection[Any]) -> "SqliteCollection":
        return self._collections.setdefault(declared.name, SqliteCollection(self, declared))

    async def start(self) -> None:
        writing = await asyncio.to_thread(self._open)
        self._reading = _connect(self._path)
        loop = asyncio.get_running_loop()
        self._searcher = ThreadPoolExecutor(1, "sqlite-search")
        # Opened by the thread that uses it, which is there from now on: a request may find no memory for a new one.
        self._searching = await loop.run_in_executor(self._searcher, _connect, self._path)
        self._writer = threading.Thread(
            target=self._write_groups, args=(writing, loop), name="sqlite-write", daemon=True
        )
        self._writer.start()

    async def stop(self) -> None:
        if self._writer is None or self._searcher is None:
            return
        self._writes.put(None)
        await asyncio.to_thread(self._writer.join, START_STOP_TIMEOUT_S)
        await asyncio.to_thread(self._searcher.shutdown)
        for connection in (self._reading, self._searching):
            if connection is not None:
                connection.close()
        self._writer = self._searcher = self._reading = self._searching = None

    async def ping(self) -> None:
        self.read("SELECT 1", ())
        if self._writer is None or not self._writer.is_alive():
            raise DependencyDown("The store's writer has stopped.")

    def read(self, sql: str, bindings: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Run a point read in the calling thread."""
        if self._reading is None:
            raise DependencyDown("The store is closed.")
        return _fetch(self._reading, sql, bindings)

    async def search(self, sql: str, bindings: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Run a read that may touch many rows, away from the event loop."""
        if self._searcher is None or self._searching is None:
            raise DependencyDown("The store is closed.")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._searcher, _fetch, self._searching, sql, bindings)

    async def write(self, act: Callable[[apsw.Cursor], R]) -> R:
        """Run `act` in the next group's transaction; return once that is on disk."""
        if self._writer is None or not self._writer.is_alive():
            raise DependencyDown("The store is closed.")
        if self._writes.qsize() >= WRITES_WAITING_MAX:
            raise DependencyDown("Too many writes are waiting for the disk.", retry_after_s=1)
        outcome: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._writes.put(_Write(act, outcome))
        return await outcome

    async def unpublished(self, stored_before_ms: int, limit: int) -> list[Message]:
        rows = await self.search(
            "SELECT topic, key, id, type, source, time_ms, data, traceparent FROM outbox"
            " WHERE published = 0 AND stored_ms < ? ORDER BY stored_ms, seq LIMIT ?",
            (stored_before_ms, limit),
        )
        return [Message(*row) for row in rows]

    async def mark_published(self, event_ids: Sequence[str]) -> None:
        def mark(cursor: apsw.Cursor) -> None:
            cursor.executemany("UPDATE outbox SET published = 1 WHERE id = ?", [(id_,) for id_ in event_ids])

        await self.write(mark)

    async def published_since(self, stored_from_ms: int, after: str, limit: int) -> list[Message]:
        rows = await self.search(
            "SELECT topic, key, id, type, source, time_ms, data, traceparent FROM outbox"
            " WHERE id > ? AND published = 1 AND stored_ms >= ? ORDER BY id LIMIT ?",
            (after, stored_from_ms, limit),
        )
        return [Message(*row) for row in rows]

    async def purge_published(self, stored_before_ms: int, limit: int) -> int:
        def purge(cursor: apsw.Cursor) -> int:
            cursor.execute(
                "DELETE FROM outbox WHERE seq IN"
                " (SELECT seq FROM outbox WHERE published = 1 AND stored_ms < ? LIMIT ?)",
                (stored_before_ms, limit),
            )
            return cursor.connection.changes()

        return await self.write(purge)

    async def outbox_backlog(self) -> tuple[int, int | None]:
        rows = await self.search("SELECT count(*), min(stored_ms) FROM outbox WHERE published = 0", ())
        return rows[0][0], rows[0][1]

    def _open(self) -> apsw.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = _connect(self._path)
            found = connection.pragma("user_version")
            if found not in (0, SCHEMA_VERSION):
                raise ConfigError(
                    f"STORE_URL: {self._path} has schema version {found}, this release reads {SCHEMA_VERSION}"
                )
            connection.execute(_OUTBOX_SQL)
            for collection in self._collections.values():
                connection.execute(collection.schema_sql)
            connection.pragma("user_version", SCHEMA_VERSION)
        except (OSError, apsw.Error) as error:
            raise ConfigError(f"STORE_URL: cannot open {self._path}: {error}") from error
        return connection

    def _write_groups(self, connection: apsw.Connection, loop: asyncio.AbstractEventLoop) -> None:
        """The writer thread: group after group, until the None that `stop` puts at the end. All wait for it, so nothing
        else ends it: what fails between two transactions is for the loop to judge, which ends a process without memory
        (`libs.common.web.serving`), and whoever is in hand is told that it may be written."""
        stopping = False
        while not stopping:
            group: list[_Write | None] = []
            try:
                self._take_group(group)
                writes = [write for write in group if write is not None]
                stopping = len(writes) < len(group)
                if writes:
                    loop.call_soon_threadsafe(_tell, _commit_group(connection, writes))
            except Exception as error:  # noqa: BLE001  whatever it was, who waits is told
                loop.call_exception_handler({"message": "the store's writer failed", "exception": error})
                unknown = DependencyDown("The outcome of this write is unknown.", retry_after_s=1)
                loop.call_soon_threadsafe(_tell, [(write, None, unknown) for write in group if write is not None])
        connection.close()

    def _take_group(self, group: list[_Write | None]) -> None:
        """Wait for a write, and take what waits behind it. Into a list of the caller's, who has it whatever happens."""
        group.append(self._writes.get())
        with suppress(Empty):
            while len(group) < GROUP_COUNT_MAX and group[-1] is not None:
                group.append(self._writes.get_nowait())


class SqliteCollection:
    """One collection: a table with the body and a column per declared field."""

    def __init__(self, store: SqliteStore, declared: Collection[Any]) -> None:
        self._store = store
        self._declared = declared
        table = self._table = f"doc_{declared.name}"
        self._fields = declared.fields
        fields = [_column(field) for field in self._fields]
        columns = ", ".join(["version", "body", *fields])
        self._load_sql = f"SELECT version, body FROM {table} WHERE id = ?"
        self._insert_sql = f"INSERT INTO {table} (id, {columns}) VALUES ({', '.join('?' * (len(fields) + 3))})"
        assignments = ", ".join(f"{field} = ?" for field in ("version", "body", *fields))
        self._update_sql = f"UPDATE {table} SET {assignments} WHERE id = ? AND version = ?"

    @property
    def schema_sql(self) -> str:
        """Makes the table and its indexes where they are missing. A UNIQUE index lets NULL in any number of times."""
        table, declared = self._table, self._declared
        columns = "".join(f", {_column(field)}" for field in self._fields)
        statements = [f"CREATE TABLE IF NOT EXISTS {table} (id TEXT PRIMARY KEY, version INTEGER, body BLOB{columns})"]
        statements += [
            f"CREATE UNIQUE INDEX IF NOT EXISTS {table}_one_{field} ON {table} ({_column(field)})"
            for field in declared.unique
        ]
        statements += [
            f"CREATE INDEX IF NOT EXISTS {table}_by_{'_'.join(fields)} ON {table} ({', '.join(map(_column, fields))})"
            for fields in declared.indexes
        ]
        return ";\n".join(statements)

    async def load(self, id_: str) -> Versioned | None:
        rows = self._store.read(self._load_sql, (id_,))
        return Versioned(id_, rows[0][0], orjson.loads(rows[0][1])) if rows else None

    async def swap(self, id_: str, expected: int, body: Body, events: Sequence[Message]) -> None:
        values = (expected + 1, orjson.dumps(body), *(body.get(field) for field in self._fields))
        stored_ms = self._store.clock.now_ms()

        def act(cursor: apsw.Cursor) -> None:
            try:
                if expected == 0:
                    cursor.execute(self._insert_sql, (id_, *values))
                else:
                    cursor.execute(self._update_sql, (*values, id_, expected))
                    if cursor.connection.changes() == 0:
                        raise Stale
            except apsw.ConstraintError as clash:
                raise AlreadyExists(str(clash).rpartition(".")[2].removeprefix(_COLUMN_PREFIX)) from None
            for event in events:
                cursor.execute(_INSERT_EVENT, _event_row(event, stored_ms))

        await self._store.write(act)

    async def find(self, where: Sequence[Where], order_by: str | None, descending: bool, limit: int) -> list[Versioned]:
        conditions, bindings = self._conditions(where, order_by)
        order = f" ORDER BY {_column(order_by)} {'DESC' if descending else 'ASC'}" if order_by else ""
        sql = f"SELECT id, version, body FROM {self._table}{conditions}{order} LIMIT ?"
        # One document by an index is a point read too; a trip to the reader's thread would cost several times that.
        rows = (
            self._store.read(sql, (*bindings, 1)) if limit == 1 else await self._store.search(sql, (*bindings, limit))
        )
        return [Versioned(id_, version, orjson.loads(body)) for id_, version, body in rows]

    async def count(self, where: Sequence[Where]) -> int:
        conditions, bindings = self._conditions(where, None)
        rows = await self._store.search(f"SELECT count(*) FROM {self._table}{conditions}", bindings)
        total: int = rows[0][0]
        return total

    async def purge(self, where: Sequence[Where], limit: int) -> int:
        conditions, bindings = self._conditions(where, None)
        sql = f"DELETE FROM {self._table} WHERE id IN (SELECT id FROM {self._table}{conditions} LIMIT ?)"

        def act(cursor: apsw.Cursor) -> int:
            cursor.execute(sql, (*bindings, limit))
            return cursor.connection.changes()

        return await self._store.write(act)

    def _conditions(self, where: Sequence[Where], order_by: str | None) -> tuple[str, tuple[Any, ...]]:
        parts, bindings = [], []
        for condition in where:
            self._check_declared(condition.field)
            if condition.op == "in":
                parts.append(f"{_column(condition.field)} IN ({', '.join('?' * len(condition.value))})")
                bindings.extend(condition.value)
            else:
                parts.append(f"{_column(condition.field)} {condition.op} ?")
                bindings.append(condition.value)
        if order_by is not None:
            self._check_declared(order_by)
            parts.append(f"{_column(order_by)} IS NOT NULL")
        return (f" WHERE {' AND '.join(parts)}" if parts else ""), tuple(bindings)

    def _check_declared(self, field: str) -> None:
        if field not in self._fields:
            raise ValueError(f"{self._declared.name}: {field} is not a declared index")


def _column(field: str) -> str:
    """The column of a declared field: apart from the table's own `id`, `version` and `body`, and from SQL's words."""
    return _COLUMN_PREFIX + field


def _connect(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")
    return connection


def _fetch(connection: apsw.Connection, sql: str, bindings: Sequence[Any]) -> list[tuple[Any, ...]]:
    try:
        return connection.execute(sql, tuple(bindings)).fetchall()
    except apsw.Error as error:
        raise DependencyDown(f"The store cannot be read: {error}", retry_after_s=1) from error


def _event_row(event: Message, stored_ms: int) -> tuple[Any, ...]:
    head = (event.id, event.topic, event.key, event.type, event.source, event.time_ms, event.data)
    return (*head, event.traceparent, stored_ms)


def _commit_group(connection: apsw.Connection, writes: Sequence[_Write]) -> list[tuple[_Write, Any, Exception | None]]:
    """Run a group in one transaction. What each caller is told is only handed out by the caller of this."""
    told: list[tuple[_Write, Any, Exception | None]] = []
    try:
        with connection:
            cursor = connection.cursor()
            for write in writes:
                try:
                    told.append((write, write.act(cursor), None))
                except (Stale, AlreadyExists) as lost:
                    told.append((write, None, lost))
    except Exception as error:  # the whole group is undone; and nothing may end the writer, on whom all wait
        if not isinstance(error, apsw.Error):
            logger.exception("a write is not what a store can take", writes=len(writes))
        down = DependencyDown(f"The store cannot be written: {error}", retry_after_s=1)
        return [(write, None, down) for write in writes]
    return told


def _tell(told: Sequence[tuple[_Write, Any, Exception | None]]) -> None:
    for write, result, error in told:
        if write.outcome.done():
            continue
        if error is None:
            write.outcome.set_result(result)
        else:
            write.outcome.set_exception(error)
