"""The Documents contract on the adapters that need nothing but this process."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import apsw
import pytest

from libs.common.errors import ConfigError, DependencyDown
from libs.common.metrics import CommonMetrics
from libs.common.storage import sqlite
from libs.common.storage.folding import Documents
from libs.common.storage.memory import MemoryStore
from libs.common.storage.ports import Store, Versioned
from libs.common.storage.sqlite import SqliteStore
from libs.common.system import SystemClock
from libs.common.testing.documents_contract import SHELVES, DocumentsContract, OpenStore, Shelf, grow


class FrailLine(SimpleQueue[Any]):
    """What waits for the writer, and fails once for each of `failures` when it is asked for more."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []

    def get_nowait(self) -> Any:
        if self.failures:
            raise self.failures.pop()
        return super().get_nowait()


class TestMemory(DocumentsContract):
    @pytest.fixture
    def open_store(self) -> OpenStore:
        store = MemoryStore(SystemClock())

        @asynccontextmanager
        async def opened() -> AsyncIterator[Store]:
            yield store

        return opened


class TestSqlite(DocumentsContract):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> OpenStore:
        @asynccontextmanager
        async def opened() -> AsyncIterator[Store]:
            store = SqliteStore(tmp_path / "test.db", SystemClock())
            store.collection(SHELVES)
            await store.start()
            yield store
            await store.stop()

        return opened

    async def test_what_was_answered_is_there_after_reopening(self, open_store: OpenStore) -> None:
        async with open_store() as store:
            await Documents(store, SHELVES, "test", CommonMetrics("test"), lambda _: None).update("a", grow)
        async with open_store() as store:
            shelves = Documents(store, SHELVES, "test", CommonMetrics("test"), lambda _: None)
            assert await shelves.get("a") == Shelf(size=1)
            assert len(await store.unpublished(2**50, 10)) == 1

    async def test_a_write_that_no_store_can_take_is_told_and_the_next_one_is_carried_out(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        store = SqliteStore(tmp_path / "test.db", SystemClock())
        store.collection(SHELVES)
        await store.start()
        with pytest.raises(DependencyDown):
            await asyncio.wait_for(store.write(lambda cursor: cursor.execute("SELECT ?", ([],))), 3)
        assert "TypeError" in capsys.readouterr().out
        await Documents(store, SHELVES, "test", CommonMetrics("test"), lambda _: None).update("a", grow)
        await store.stop()

    async def test_a_writer_that_has_taken_a_write_and_fails_tells_that_and_goes_on(self, tmp_path: Path) -> None:
        store = SqliteStore(tmp_path / "test.db", SystemClock())
        shelves = store.collection(SHELVES)
        store._writes = line = FrailLine()
        await store.start()
        line.failures.append(MemoryError("no more"))
        with pytest.raises(DependencyDown, match="unknown") as told:
            await asyncio.wait_for(shelves.swap("a", 0, {"size": 1}, []), 3)
        assert told.value.retry_after_s == 1
        assert await shelves.load("a") is None
        await asyncio.wait_for(shelves.swap("a", 0, {"size": 2}, []), 3)
        await store.ping()
        await store.stop()

    async def test_a_writer_that_fails_after_a_commit_says_unknown_and_neither_undoes_nor_repeats_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = SqliteStore(tmp_path / "test.db", SystemClock())
        shelves = store.collection(SHELVES)
        await store.start()
        commit = sqlite._commit_group

        def commit_and_fail(*given: Any) -> None:
            commit(*given)
            raise MemoryError("no more")

        with monkeypatch.context() as patched:
            patched.setattr(sqlite, "_commit_group", commit_and_fail)
            with pytest.raises(DependencyDown, match="unknown"):
                await asyncio.wait_for(shelves.swap("a", 0, {"size": 1}, []), 3)
        assert await shelves.load("a") == Versioned("a", 1, {"size": 1})
        await asyncio.wait_for(shelves.swap("a", 1, {"size": 2}, []), 3)
        await store.stop()

    async def test_a_search_needs_no_thread_that_is_not_there_yet(
        self, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with open_store() as store:
            with monkeypatch.context() as patched:
                patched.setattr(threading.Thread, "start", _no_thread)
                assert await store.outbox_backlog() == (0, None)

    async def test_a_file_of_a_newer_release_is_refused(self, open_store: OpenStore, tmp_path: Path) -> None:
        apsw.Connection(str(tmp_path / "test.db")).pragma("user_version", 99)
        with pytest.raises(ConfigError, match=r"STORE_URL: .* schema version 99"):
            async with open_store():
                pass


def _no_thread(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")
