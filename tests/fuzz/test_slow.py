"""Clients that take their time: each connection ends within its bound, and whoever is in a hurry does not notice."""

import asyncio
import time
from dataclasses import dataclass
from statistics import median

import pytest

from services.gateway.__main__ import PUBLIC_KEEPALIVE_S
from services.gateway.routes import BODY_TIMEOUT_S
from tests.e2e.system import RunningSystem
from tests.fuzz.effort import REPORT, percentile
from tests.fuzz.wire import HOST, Wire, ended, request

pytestmark = pytest.mark.e2e

HEADS, BODIES, IDLE = 500, 200, 1_000
DRIP_S = 1.0
SLACK_S = 3.0
"""What a busy machine may be late."""

PROBES = 200
PROBE_PAUSE_S = 0.005
SLOWER_MAX = 2.0
NOISE_MS = 5.0
"""Below this a median of a loopback request says more about the machine than about us."""

HEAD = b"POST /api/v1/payment HTTP/1.1\r\nHost: x\r\nX-Waiting-Token: test-token\r\nContent-Type: application/json\r\n"
GOOD = request("GET", "/api/v1/concert/1/available-seats", [("X-Waiting-Token", b"test-token")])


@dataclass(frozen=True, slots=True)
class Slow:
    """A kind of slow client: what it sends first, and then every second."""

    name: str
    count: int
    first: bytes
    drip: bytes = b""
    ends_within_s: float = PUBLIC_KEEPALIVE_S


KINDS = (
    Slow("idle", IDLE, b""),
    Slow("dripping head", HEADS // 2, HEAD, b"X-A: b\r\n"),
    Slow("stalled head", HEADS // 2, b"GET /api/v1/conc"),
    Slow("idle after an answer", 50, request("GET", "/healthz")),
    Slow("upgraded", 20, request("GET", "/healthz", [("Connection", b"upgrade"), ("Upgrade", b"websocket")])),
    Slow("dripping body", BODIES // 2, HEAD + b"Content-Length: 9000\r\n\r\n", b"x", BODY_TIMEOUT_S + 5),
    Slow("stalled body", BODIES // 4, HEAD + b"Content-Length: 9000\r\n\r\n{", b"", BODY_TIMEOUT_S + 5),
    Slow(
        "dripping chunks", BODIES // 4, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", BODY_TIMEOUT_S + 5
    ),
    Slow("broken chunk", 20, HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"zz\r\n", BODY_TIMEOUT_S + 5),
    Slow("unread body", 20, request("GET", "/healthz")[:-2] + b"Content-Length: 9000\r\n\r\n", b"x"),
)


async def lived_s(kind: Slow, port: int) -> tuple[float, bytes]:
    """How long one connection of this kind was kept, and what it was told."""
    reader, writer = await asyncio.open_connection(HOST, port)
    started_s = time.monotonic()
    said = b""
    listening = asyncio.ensure_future(reader.read(2**16))
    try:
        writer.write(kind.first)
        while time.monotonic() - started_s < kind.ends_within_s + SLACK_S:
            done, _ = await asyncio.wait([listening], timeout=DRIP_S)
            if done:
                more = listening.result()
                if not more:
                    return time.monotonic() - started_s, said
                said += more
                listening = asyncio.ensure_future(reader.read(2**16))
            elif kind.drip:
                writer.write(kind.drip)
    except ConnectionError:
        return time.monotonic() - started_s, said
    finally:
        listening.cancel()
        await ended(writer)
    raise AssertionError(f"a connection with a {kind.name} is still open after {kind.ends_within_s + SLACK_S:g} s")


async def latencies_s(port: int) -> list[float]:
    wire = Wire(port)
    took_s = []
    for _ in range(PROBES):
        reply = await wire.ask(GOOD)
        assert reply.status == 200
        took_s.append(reply.took_s)
        await asyncio.sleep(PROBE_PAUSE_S)
    await wire.close()
    return took_s


async def test_a_crowd_of_slow_clients_is_sent_away_in_time_and_slows_nobody_down(system: RunningSystem) -> None:
    before_s = await latencies_s(system.port)
    async with asyncio.TaskGroup() as group:
        crowd = [group.create_task(lived_s(kind, system.port)) for kind in KINDS for _ in range(kind.count)]
        await asyncio.sleep(DRIP_S)  # all are connected, and the first drips are on their way
        meanwhile_s = await latencies_s(system.port)
    told = b"".join(said for _, said in (task.result() for task in crowd))
    assert b"HTTP/1.1 5" not in told
    assert b'"BODY_TOO_SLOW"' in told
    p50, slower_p50 = median(before_s) * 1000, median(meanwhile_s) * 1000
    p99, slower_p99 = percentile(before_s, 0.99), percentile(meanwhile_s, 0.99)
    longest_s = max(lived for lived, _ in (task.result() for task in crowd))
    REPORT.append(
        f"{len(crowd):,} slow connections gone within {longest_s:.1f} s; good traffic meanwhile: "
        f"p50 {slower_p50:.1f} ms (before {p50:.1f}), p99 {slower_p99:.1f} ms (before {p99:.1f})"
    )
    assert slower_p50 < max(SLOWER_MAX * p50, NOISE_MS), "the median of good traffic"
