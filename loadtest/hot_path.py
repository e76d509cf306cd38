"""What one part of the hot path can do, asked by a generator that is cheap itself.

    python -m loadtest.hot_path joins    people joining the line at once
    python -m loadtest.hot_path polls    people asking where they are, none of them at their turn
    python -m loadtest.hot_path holds    people who all want the same seats
    python -m loadtest.hot_path charges  one point each for 1,000 wallets

`--at-once` callers send one request after another through the gateway for `--seconds`: a closed loop, which shows what
the part can do and not how long people would wait. Every run has a system of its own with empty state. The generator
writes whole requests onto connections that stay open (`loadtest/raw_client.py`); its CPU is told apart. Loopback only,
bounded in time.
"""

import asyncio
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Annotated

import orjson
import typer
import uvloop

from infra.local.settings import DEMO_TOKEN
from loadtest.command import run_command
from loadtest.fresh_system import PORT, FreshSystem
from loadtest.raw_client import RawClient, body_of, written

WARM_UP_S = 3.0
CALL_TIMEOUT_S = 10.0
PREPARE_S = 30.0
WAITING_MAX = 2_000
"""People in line for the polls."""

JOIN = written("POST", "/api/v1/token/create")
TICKET = "X-Waiting-Token"

Request = Callable[[int], bytes]
"""The request that is sent so many-th, counted from 0."""


@dataclass
class Tally:
    """Answers by status (0: the connection ended first), and how long each took in milliseconds."""

    statuses: Counter[int] = field(default_factory=Counter)
    took_ms: list[float] = field(default_factory=list)


async def joins(_: RawClient) -> Request:
    return lambda _: JOIN


async def polls(gateway: RawClient) -> Request:
    """Room 1 lets nobody in (`ROOM_CAPACITY=0`), so every poll is answered from the gateway's memory."""
    tickets = [orjson.loads(body_of((await gateway.call(JOIN))[1]))["uuid"] for _ in range(WAITING_MAX)]
    asked = [written("GET", "/api/v1/token", headers={TICKET: ticket}) for ticket in tickets]
    return lambda number: asked[number % WAITING_MAX]


async def holds(_: RawClient) -> Request:
    """Everybody wants seats 1 and 2 of schedule 1: one gets them, the others are decided against."""

    def request(number: int) -> bytes:
        body = orjson.dumps({"userId": number % 1000 + 1, "concertScheduleId": 1, "seatIds": [1, 2]})
        return written("POST", "/api/v1/concert/reservation", body, {TICKET: DEMO_TOKEN})

    return request


async def charges(_: RawClient) -> Request:
    def request(number: int) -> bytes:
        body = orjson.dumps({"userId": number % 1000 + 1, "point": 1})
        return written("PATCH", "/api/v1/users/charge/point", body)

    return request


WORK = {"joins": joins, "polls": polls, "holds": holds, "charges": charges}


async def drive(gateway: RawClient, request: Request, at_once: int, seconds: float) -> Tally:
    """Keep `at_once` calls in flight for some seconds. Raises TimeoutError when one is not answered."""
    tally, numbers = Tally(), count()
    ends_s = time.perf_counter() + seconds

    async def caller() -> None:
        while (started_s := time.perf_counter()) < ends_s:
            status, _ = await gateway.call(request(next(numbers)))
            tally.statuses[status] += 1
            tally.took_ms.append((time.perf_counter() - started_s) * 1000)

    async with asyncio.timeout(seconds + CALL_TIMEOUT_S):
        await asyncio.gather(*(caller() for _ in range(at_once)))
    return tally


async def measure(work: str, at_once: int, seconds: float, system: FreshSystem) -> None:
    gateway = RawClient(PORT, at_once)
    async with asyncio.timeout(PREPARE_S):
        await gateway.start()
        request = await WORK[work](gateway)
    await drive(gateway, request, at_once, WARM_UP_S)
    before, own_s, started_s = await asyncio.to_thread(system.cpu_s), time.process_time(), time.perf_counter()
    tally = await drive(gateway, request, at_once, seconds)
    wall_s, own_s = time.perf_counter() - started_s, time.process_time() - own_s
    after = await asyncio.to_thread(system.cpu_s)
    gateway.stop()
    total, cuts = len(tally.took_ms), statistics.quantiles(tally.took_ms, n=100)
    print(f"{work}: {total / wall_s:,.0f}/s, {at_once} at once, {dict(tally.statuses)}")
    print(f"  p50 {cuts[49]:.1f} ms  p95 {cuts[94]:.1f} ms  p99 {cuts[98]:.1f} ms")
    cpu = {name: (spent_s - before[name]) / total * 1e6 for name, spent_s in after.items()}
    print("  CPU µs a request: " + "  ".join(f"{name} {spent:.0f}" for name, spent in cpu.items()))
    print(f"  generator: {own_s / total * 1e6:.0f} µs a request, {own_s / wall_s:.0%} of one core")


def main(
    work: Annotated[str, typer.Argument(help=", ".join(WORK))],
    at_once: Annotated[int, typer.Option(min=1, max=128)] = 64,
    seconds: Annotated[float, typer.Option(min=1, max=120)] = 15,
) -> None:
    """Measure one part; settings of the system come from the environment."""
    if work not in WORK:
        raise typer.BadParameter(f"there are {', '.join(WORK)}")
    environment = {"ROOM_CAPACITY": os.environ.get("ROOM_CAPACITY", "0" if work in ("joins", "polls") else "500")}
    with FreshSystem(environment) as system:
        uvloop.run(measure(work, at_once, seconds, system))


if __name__ == "__main__":
    run_command(main)
