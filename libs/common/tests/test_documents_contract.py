"""The Documents contract on the adapters that need nothing but this process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import apsw
import pytest

from libs.common.errors import ConfigError, DependencyDown
from libs.common.metrics import CommonMetrics
from libs.common.storage.folding import Documents
from libs.common.storage.memory import MemoryStore
from libs.common.storage.ports import Store
from libs.common.storage.sqlite import SqliteStore
from libs.common.system import SystemClock
from libs.common.testing.documents_contract import SHELVES, DocumentsContract, OpenStore, Shelf, grow


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

    async def test_a_file_of_a_newer_release_is_refused(self, open_store: OpenStore, tmp_path: Path) -> None:
        apsw.Connection(str(tmp_path / "test.db")).pragma("user_version", 99)
        with pytest.raises(ConfigError, match=r"STORE_URL: .* schema version 99"):
            async with open_store():
                pass
