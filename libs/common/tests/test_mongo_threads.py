"""Motor asks in threads, and a process near its memory's limit may get none: no server is needed to see what then."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from motor.frameworks import asyncio as motor_threads

from libs.common.errors import DependencyDown
from libs.common.storage.mongo import connection
from libs.common.storage.mongo.connection import Connection

NOBODY = "mongodb://127.0.0.1:1"


@pytest.fixture
def store() -> Connection:
    store = Connection(NOBODY, "test", "test", "motor")
    store._client = connection._client("motor", NOBODY, "test")
    return store


async def test_an_operation_without_a_thread_is_a_store_that_does_not_answer(
    store: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(motor_threads, "_EXECUTOR", ThreadPoolExecutor(1))  # without idle threads of other tests
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        for _ in range(motor_threads.max_workers + 1):  # each gives its turn back
            with pytest.raises(DependencyDown, match="no memory for a thread") as told:
                async with store.operation() as database:
                    await database["shelves"].find_one({})
            assert told.value.retry_after_s == 1


async def test_any_other_error_of_its_kind_is_a_fault_of_ours(store: Connection) -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        async with store.operation():
            raise RuntimeError("a bug")
