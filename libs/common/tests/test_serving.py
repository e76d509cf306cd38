"""What a process does about a step of its event loop that found no memory."""

import subprocess
import sys
from pathlib import Path

import pytest

from libs.common.web.serving import EXIT_NO_MEMORY, NO_MEMORY

LISTENING = """
import asyncio, socket, uvloop
from libs.common.web.serving import end_without_memory

class Connection(asyncio.Protocol):
    def data_received(self, data):
        raise MemoryError

made = []

def connection():
    made.append(1)
    if len(made) == {fails}:
        raise MemoryError
    return Connection()

async def main():
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(end_without_memory)
    server = await loop.create_server(connection, "127.0.0.1", 0)
    for _ in range(2):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"x")
        await asyncio.wait_for(reader.read(), 5)
    print("heard both")

uvloop.run(main())
"""

WRITING = """
import pathlib, sys, uvloop
from asyncio import get_running_loop, timeout
from libs.common.storage.sqlite import SqliteStore
from libs.common.system import SystemClock
from libs.common.web.serving import end_without_memory

class Store(SqliteStore):
    def _take_group(self, group):
        super()._take_group(group)
        raise MemoryError

async def main():
    get_running_loop().set_exception_handler(end_without_memory)
    store = Store(pathlib.Path({path!r}), SystemClock())
    await store.start()
    async with timeout(5):
        await store.write(lambda cursor: None)

uvloop.run(main())
"""


def run(program: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(  # noqa: S603  our own interpreter and text
        [sys.executable, "-c", program], capture_output=True, timeout=20, check=False
    )


@pytest.mark.parametrize("fails", [1, 2])
def test_a_process_that_could_not_take_a_connection_for_want_of_memory_ends(fails: int) -> None:
    ended = run(LISTENING.format(fails=fails))
    assert (ended.returncode, ended.stderr.endswith(NO_MEMORY)) == (EXIT_NO_MEMORY, True)


def test_a_process_whose_store_cannot_write_for_want_of_memory_ends(tmp_path: Path) -> None:
    ended = run(WRITING.format(path=str(tmp_path / "test.db")))
    assert (ended.returncode, ended.stderr.endswith(NO_MEMORY)) == (EXIT_NO_MEMORY, True)


def test_one_connection_without_memory_ends_alone() -> None:
    ended = run(LISTENING.format(fails=3))
    assert (ended.returncode, ended.stdout) == (0, b"heard both\n")
    assert b"MemoryError" in ended.stderr
