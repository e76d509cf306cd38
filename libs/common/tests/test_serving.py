"""What a process does about a step of its event loop that found no memory."""

import subprocess
import sys

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


def run(fails: int) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(  # noqa: S603  our own interpreter and text
        [sys.executable, "-c", LISTENING.format(fails=fails)], capture_output=True, timeout=20, check=False
    )


@pytest.mark.parametrize("fails", [1, 2])
def test_a_process_that_could_not_take_a_connection_for_want_of_memory_ends(fails: int) -> None:
    ended = run(fails)
    assert (ended.returncode, ended.stderr.endswith(NO_MEMORY)) == (EXIT_NO_MEMORY, True)


def test_one_connection_without_memory_ends_alone() -> None:
    ended = run(fails=3)
    assert (ended.returncode, ended.stdout) == (0, b"heard both\n")
    assert b"MemoryError" in ended.stderr
