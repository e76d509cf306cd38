"""One service's SQLite file, opened read-only: a consistent snapshot, taken while the service goes on writing.

A reader of a WAL never waits for the writer nor keeps it waiting; it only keeps the WAL from being emptied for as long
as its transaction lasts, which is the time one file takes to read. A file without a WAL belongs to nobody at the
moment. It is read as it lies, because a reader that asked for locks would leave files of its own beside it.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import apsw
import orjson

from loadtest.audit.doors.ports import CannotRead, Document, Stored

BUSY_TIMEOUT_MS = 5_000
SCHEMA_VERSION = 1


class SqliteDoor:
    def __init__(self, path: Path) -> None:
        self._path = path

    def outbox(self) -> list[Stored]:
        with self._snapshot() as connection:
            rows = connection.execute("SELECT id, topic, type, stored_ms, published FROM outbox")
            return [Stored(id_, topic, type_, stored_ms, bool(done)) for id_, topic, type_, stored_ms, done in rows]

    def documents(self, collections: Iterable[str]) -> dict[str, list[Document]]:
        with self._snapshot() as connection:
            return {name: self._all_of(connection, name) for name in collections}

    def _all_of(self, connection: apsw.Connection, name: str) -> list[Document]:
        rows = connection.execute(f"SELECT id, version, body FROM doc_{name}")  # noqa: S608 (a name of our own)
        return [Document(id_, version, orjson.loads(body)) for id_, version, body in rows]

    @contextmanager
    def _snapshot(self) -> Iterator[apsw.Connection]:
        if not self._path.is_file():
            raise CannotRead(f"{self._path} is not there")
        wal = self._path.with_name(f"{self._path.name}-wal")
        is_nobodys = not wal.exists()
        try:
            flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
            how = "mode=ro&immutable=1" if is_nobodys else "mode=ro"
            connection = apsw.Connection(f"file:{quote(str(self._path))}?{how}", flags=flags)
            try:
                connection.set_busy_timeout(BUSY_TIMEOUT_MS)
                found = connection.pragma("user_version")
                if found != SCHEMA_VERSION:
                    raise CannotRead(f"{self._path} has schema version {found}; this auditor reads {SCHEMA_VERSION}")
                connection.execute("BEGIN")
                yield connection
            finally:
                connection.close()
            if is_nobodys and wal.exists():
                raise CannotRead(f"{self._path} was opened by a service while it was read; audit again")
        except (apsw.Error, orjson.JSONDecodeError) as error:
            raise CannotRead(f"{self._path}: {error}") from error
