"""Each toxic as a plain socket client sees it, over TCP and over a UNIX socket."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from libs.common.testing.eventually import eventually
from loadtest.chaos.proxy.addresses import Ends, connect, listen
from loadtest.chaos.proxy.proxy import Proxy

LINE = b"one request of a client\n"
SLOW_MACHINE_S = 0.5
"""What a busy machine may add to any time here."""


class Echo:
    """A server that answers each line with the same line, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.connections_count = self.ended_count = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections_count += 1
        try:
            while line := await reader.readline():
                self.asked.append(line)
                writer.write(line)
        except ConnectionError:
            pass
        finally:
            self.ended_count += 1
            writer.close()


@pytest.fixture
async def echo() -> Echo:
    return Echo()


@pytest.fixture(params=["tcp", "unix"])
async def upstream(request: pytest.FixtureRequest, tmp_path: Path, echo: Echo) -> AsyncIterator[str]:
    address = "127.0.0.1:0" if request.param == "tcp" else f"unix:{tmp_path}/up.sock"
    server, where = await listen(address, echo.serve)
    yield where
    server.close()


@pytest.fixture
async def proxy(upstream: str, tmp_path: Path) -> AsyncIterator[Proxy]:
    address = "127.0.0.1:0" if "unix" not in upstream else f"unix:{tmp_path}/down.sock"
    proxy = Proxy("wire", address, upstream, seed=1)
    await proxy.enable()
    yield proxy
    await proxy.disable()


@asynccontextmanager
async def connected(proxy: Proxy) -> AsyncIterator[Ends]:
    reader, writer = await connect(proxy.listen)
    try:
        yield reader, writer
    finally:
        writer.close()


async def ask(ends: Ends, line: bytes = LINE) -> bytes:
    reader, writer = ends
    writer.write(line)
    async with asyncio.timeout(10):
        return await reader.readline()


def toxic(type_: str, stream: str = "downstream", toxicity: float = 1.0, **attributes: int) -> dict[str, Any]:
    return {"type": type_, "stream": stream, "toxicity": toxicity, "attributes": attributes}


async def seconds_for(ends: Ends, line: bytes = LINE) -> float:
    began_s = time.monotonic()
    assert await ask(ends, line) == line
    return time.monotonic() - began_s


async def is_quick(ends: Ends) -> bool:
    """Whether one of three answers comes sooner than through any toxic here."""
    return min([await seconds_for(ends) for _ in range(3)]) < 0.15


async def test_a_healthy_wire_carries_everything_both_ways(proxy: Proxy) -> None:
    lines = [os.urandom(200_000).replace(b"\n", b" ") + b"\n" for _ in range(5)]

    async def read_all(reader: asyncio.StreamReader) -> bytes:
        return b"".join([await reader.readexactly(len(line)) for line in lines])

    # The echo answers line by line, and these are longer than it reads.
    async with await asyncio.start_server(_parrot, "127.0.0.1", 0) as parrot:
        await proxy.change({"upstream": f"127.0.0.1:{parrot.sockets[0].getsockname()[1]}"})
        async with connected(proxy) as (reader, writer):
            writer.write(b"".join(lines))
            assert await asyncio.wait_for(read_all(reader), 10) == b"".join(lines)


async def _parrot(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def test_the_end_of_one_side_reaches_the_other(proxy: Proxy, echo: Echo) -> None:
    async with connected(proxy) as (reader, writer):
        assert await ask((reader, writer)) == LINE
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 5) == b""
    await eventually(lambda: echo.ended_count == 1)


@pytest.mark.parametrize("stream", ["upstream", "downstream"])
async def test_latency_comes_on_while_connections_are_open_and_goes_at_once(proxy: Proxy, stream: str) -> None:
    async with connected(proxy) as ends:
        assert await is_quick(ends)
        proxy.add(toxic("latency", stream, latency=200, jitter=50))
        for _ in range(3):
            assert 0.149 < await seconds_for(ends) < 0.25 + SLOW_MACHINE_S
        proxy.remove(f"latency_{stream}")
        assert await is_quick(ends)


async def test_latency_does_not_make_the_wire_narrow(proxy: Proxy) -> None:
    proxy.add(toxic("latency", latency=200))
    async with connected(proxy) as (reader, writer):
        began_s = time.monotonic()
        for _ in range(20):
            writer.write(LINE)
            await asyncio.sleep(0.005)
        await asyncio.wait_for(reader.readexactly(20 * len(LINE)), 5)
        assert 0.2 <= time.monotonic() - began_s < 0.4 + SLOW_MACHINE_S


async def test_what_latency_holds_back_comes_when_it_is_taken_away(proxy: Proxy) -> None:
    proxy.add(toxic("latency", latency=60_000))
    async with connected(proxy) as ends:
        answer = asyncio.create_task(ask(ends))
        await asyncio.sleep(0.1)
        assert not answer.done()
        proxy.remove("latency_downstream")
        assert await asyncio.wait_for(answer, 1) == LINE


async def test_bandwidth_is_what_the_rate_says(proxy: Proxy) -> None:
    proxy.add(toxic("bandwidth", rate=20))
    async with connected(proxy) as ends:
        took_s = min([await seconds_for(ends, b"x" * 9_999 + b"\n") for _ in range(3)])
        assert 10_000 / took_s == pytest.approx(20_000, rel=0.3)


async def test_the_slicer_makes_pieces_of_about_the_size(proxy: Proxy, upstream: str) -> None:
    proxy.add(toxic("slicer", average_size=10, size_variation=3, delay=20_000))
    async with connected(proxy) as (reader, writer):
        writer.write(b"x" * 99 + b"\n")
        pieces: list[bytes] = []
        while sum(map(len, pieces)) < 100:
            pieces.append(await asyncio.wait_for(reader.read(1024), 5))
    assert len(pieces) >= 4  # of ten: a slow machine may read two as one
    assert all(len(piece) >= 7 for piece in pieces[:-1])
    assert b"".join(pieces) == b"x" * 99 + b"\n"


async def test_timeout_0_is_a_peer_that_is_gone_without_a_word(proxy: Proxy, echo: Echo) -> None:
    async with connected(proxy) as (reader, writer):
        assert await ask((reader, writer)) == LINE
        proxy.add(toxic("timeout", "upstream", timeout=0))
        writer.write(LINE)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.3)
        writer.close()
        with pytest.raises(AssertionError):
            await eventually(lambda: echo.ended_count == 1, 0.3)
        assert echo.asked == [LINE]
        proxy.remove("timeout_upstream")
        await eventually(lambda: echo.ended_count == 1)


async def test_timeout_closes_the_connection_when_its_time_is_up(proxy: Proxy) -> None:
    proxy.add(toxic("timeout", timeout=200))
    began_s = time.monotonic()
    async with connected(proxy) as ends:
        assert await ask(ends) == b""
        assert 0.19 < time.monotonic() - began_s < 0.2 + SLOW_MACHINE_S


async def test_reset_peer_is_seen_as_a_reset(proxy: Proxy) -> None:
    async with connected(proxy) as (reader, writer):
        assert await ask((reader, writer)) == LINE
        proxy.add(toxic("reset_peer", timeout=100))
        if proxy.listen.startswith("unix:"):  # a UNIX socket only knows how to close
            assert await asyncio.wait_for(reader.read(), 2) == b""
        else:
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), 2)


async def test_slow_close_delays_the_end_and_nothing_else(proxy: Proxy, echo: Echo) -> None:
    proxy.add(toxic("slow_close", "upstream", delay=300))
    async with connected(proxy) as ends:
        assert await is_quick(ends)
        ends[1].write_eof()
        began_s = time.monotonic()
        await eventually(lambda: echo.ended_count == 1)
        assert 0.29 < time.monotonic() - began_s < 0.3 + SLOW_MACHINE_S


async def test_limit_data_lets_so_many_bytes_through(proxy: Proxy) -> None:
    proxy.add(toxic("limit_data", bytes=30))
    async with connected(proxy) as (reader, writer):
        writer.write(LINE + LINE)
        assert await asyncio.wait_for(reader.read(-1), 5) == (LINE + LINE)[:30]


async def test_a_cut_reply_leaves_a_request_that_was_carried_out_and_a_client_that_knows_nothing(
    proxy: Proxy, echo: Echo
) -> None:
    added = proxy.add(toxic("cut_reply"))
    async with connected(proxy) as ends:
        assert await ask(ends) == b""
    assert echo.asked == [LINE]
    assert added.touched == 1
    await eventually(lambda: echo.ended_count == 1)


async def test_nothing_of_a_cut_reply_gets_through_behind_what_was_kept(proxy: Proxy) -> None:
    proxy.add(toxic("cut_reply"))
    for _ in range(20):
        async with connected(proxy) as (reader, writer):
            writer.write(b"x" * 50_000 + b"\n")  # many chunks, all of them read ahead
            with suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_down_refuses_connections_and_ends_those_there_are(proxy: Proxy, echo: Echo) -> None:
    async with connected(proxy) as (reader, writer):
        assert await ask((reader, writer)) == LINE
        await proxy.change({"enabled": False})
        assert await asyncio.wait_for(reader.read(), 2) == b""
    with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
        await connect(proxy.listen)
    await proxy.change({"enabled": True})
    async with connected(proxy) as ends:
        assert await ask(ends) == LINE


async def test_a_server_that_is_not_there_is_a_connection_that_ends(proxy: Proxy, tmp_path: Path) -> None:
    await proxy.change({"upstream": f"unix:{tmp_path}/nobody.sock"})
    async with connected(proxy) as (reader, _):
        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 2) == b""


async def test_half_of_the_connections_are_hit_by_a_toxicity_of_one_half_and_again_the_same_ones(
    upstream: str, echo: Echo
) -> None:
    async def hit(seed: int) -> list[bool]:
        proxy = Proxy("wire", "127.0.0.1:0", upstream, seed)
        await proxy.enable()
        proxy.add(toxic("limit_data", toxicity=0.5, bytes=0))
        seen = []
        for _ in range(40):
            async with connected(proxy) as ends:
                seen.append(await ask(ends) == b"")
        await proxy.disable()
        return seen

    first = await hit(1)
    assert 10 <= sum(first) <= 30
    assert await hit(1) == first
    assert await hit(2) != first


async def test_a_cut_is_drawn_for_each_reply_and_again_for_the_same_ones(upstream: str, echo: Echo) -> None:
    async def survived(seed: int) -> list[int]:
        """The replies each of ten connections got before the cut."""
        proxy = Proxy("wire", "127.0.0.1:0", upstream, seed)
        await proxy.enable()
        proxy.add(toxic("cut_reply", toxicity=0.2))
        seen = []
        for _ in range(10):
            async with connected(proxy) as ends:
                count = 0
                while count < 100 and await ask(ends) == LINE:
                    count += 1
                seen.append(count)
        await proxy.disable()
        return seen

    first = await survived(1)
    assert len(set(first)) > 2
    assert 1 < sum(first) / len(first) < 12
    assert await survived(1) == first
    assert await survived(2) != first


async def test_the_program_says_where_it_is_told_what_to_do_and_leaves_nothing(tmp_path: Path, echo: Echo) -> None:
    server, upstream = await listen(f"unix:{tmp_path}/up.sock", echo.serve)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "loadtest.chaos.proxy", "--control", "127.0.0.1:0"), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    said = (await asyncio.wait_for(process.stdout.readline(), 20)).decode()
    assert said.startswith("ready http://127.0.0.1:")
    own = f"unix:{tmp_path}/down.sock"
    async with aiohttp.ClientSession(said.split()[1]) as session:
        for name, address in (("wire", own), ("tcp", "127.0.0.1:0")):
            made = await session.post("/proxies", json={"name": name, "listen": address, "upstream": upstream})
            assert made.status == 201
            listens = (await made.json())["listen"]
        added = await session.post("/proxies/tcp/toxics", json=toxic("reset_peer"))
        assert added.status == 200
    with pytest.raises(ConnectionResetError):
        await ask(await connect(listens))
    reader, writer = await connect(own)
    assert await ask((reader, writer)) == LINE
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 5) == 0
    assert await asyncio.wait_for(reader.read(), 1) == b""
    assert await asyncio.to_thread(os.listdir, tmp_path) == ["up.sock"]
    writer.close()
    server.close()
