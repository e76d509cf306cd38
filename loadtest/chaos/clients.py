"""Clients that are the fault: those who take their time, those who all come at once, those with tickets not their own.

The first two run in a process of their own, so that what they cost does not slow down the crowd that is measured.
"""

import asyncio
import contextlib
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from infra.local.settings import DEMO_TOKEN
from libs.common.errors import ConfigError
from loadtest.chaos.actions import tickets

DRIP_S = 1.0
CLOSED_S = 20.0
"""The edge keeps a connection for 15 s without a request, and 5 s for a body."""

SLACK_S = 4.0
CALL_S = 10.0
CONNECTING_AT_ONCE = 100

HEAD = b"POST /api/v1/payment HTTP/1.1\r\nHost: x\r\nX-Waiting-Token: %b\r\nContent-Type: application/json\r\n"
KINDS: dict[str, tuple[bytes, bytes]] = {
    "idle": (b"", b""),
    "dripping head": (HEAD, b"X-A: b\r\n"),
    "dripping body": (HEAD + b"Content-Length: 9000\r\n\r\n", b"x"),
}
"""What each sends first, and then every second."""

ATTACKS: dict[str, Callable[[int, int, str], dict[str, Any]]] = {
    "forged": tickets.forged,
    "expired": lambda count, _, url: tickets.expired(count, url),
    "shared": lambda count, _, url: tickets.shared(count, url),
    "replayed": lambda count, _, url: tickets.replayed(count, url),
}


def slow(idle: int, heads: int, bodies: int) -> dict[str, Any]:
    """So many connections of each kind at once. Raises ConfigError when one is kept longer than the edge promises."""
    counts = {"idle": idle, "dripping head": heads, "dripping body": bodies}
    told: dict[str, Any] = _elsewhere(_slow, _gateway(), counts)
    if told["kept"]:
        raise ConfigError(f"{told['kept']} connections were kept longer than {CLOSED_S + SLACK_S:g} s")
    return told


def rush(per_s: float, seconds: float) -> dict[str, Any]:
    """So many people a second join, from one moment to the next. Raises ConfigError for any answer that is neither a
    place in line nor a refusal that says when to come again."""
    told: dict[str, Any] = _elsewhere(_rush, _gateway(), per_s, seconds)
    wrong = {status: count for status, count in told["statuses"].items() if status not in ("201", "429", "503", "0")}
    if wrong:
        raise ConfigError(f"joins were answered {wrong}")
    return told


def refused(kind: str, count: int, seed: int = 0) -> dict[str, Any]:
    """Attack with so many tickets of a kind. Raises ConfigError unless every single one is refused."""
    told = ATTACKS[kind](count, seed, _gateway())
    if told["wrong"] or told["sent"] != told["refused"]:
        raise ConfigError(f"{kind} tickets: {told['refused']} of {told['sent']} refused; {told['wrong']}")
    return told


def _elsewhere(work: Callable[..., Any], *arguments: Any) -> Any:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def _gateway() -> str:
    url = os.environ.get("TARGET") or f"http://127.0.0.1:{os.environ.get('PORT') or 8080}"
    return url.partition(",")[0].strip().rstrip("/")


def _slow(url: str, counts: dict[str, int]) -> dict[str, Any]:
    return asyncio.run(_all_slow(url, counts))


async def _all_slow(url: str, counts: dict[str, int]) -> dict[str, Any]:
    connecting = asyncio.Semaphore(CONNECTING_AT_ONCE)
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    lived = await asyncio.gather(*(_lived_s(url, *KINDS[kind], connecting) for kind in kinds))
    known = [seconds for seconds in lived if seconds is not None]
    kept = sum(seconds > CLOSED_S + SLACK_S for seconds in known)
    return {"opened": len(known), "refused": len(lived) - len(known), "kept": kept, "longest": max(known, default=0)}


async def _lived_s(url: str, first: bytes, drip: bytes, connecting: asyncio.Semaphore) -> float | None:
    """How long one connection was kept; None for one that was refused."""
    address = urlsplit(url)
    try:
        async with connecting:
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
    except OSError:
        return None
    began_s = time.monotonic()
    listening = asyncio.ensure_future(reader.read())
    try:
        writer.write(first.replace(b"%b", DEMO_TOKEN.encode()))
        while not listening.done() and time.monotonic() - began_s < CLOSED_S + 2 * SLACK_S:
            await asyncio.wait([listening], timeout=DRIP_S)
            writer.write(drip)
    finally:
        listening.cancel()
        writer.close()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await listening
    return time.monotonic() - began_s


def _rush(url: str, per_s: float, seconds: float) -> dict[str, Any]:
    return asyncio.run(_all_at_once(url, per_s, seconds))


async def _all_at_once(url: str, per_s: float, seconds: float) -> dict[str, Any]:
    statuses: Counter[str] = Counter()
    refused_s: list[float] = []
    timeout = aiohttp.ClientTimeout(total=CALL_S)

    async def join(session: aiohttp.ClientSession) -> None:
        sent_s = time.monotonic()
        try:
            async with session.post(f"{url}/api/v1/token/create", data=b"{}") as reply:
                await reply.read()
                statuses[str(reply.status)] += 1
                if reply.status in (429, 503):
                    refused_s.append(time.monotonic() - sent_s)
        except (aiohttp.ClientError, TimeoutError):
            statuses["0"] += 1

    headers = {"Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(limit=CONNECTING_AT_ONCE)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session,
        asyncio.TaskGroup() as group,
    ):
        began_s = time.monotonic()
        for number in range(round(per_s * seconds)):
            await asyncio.sleep(max(0.0, began_s + number / per_s - time.monotonic()))
            group.create_task(join(session))
    return {"statuses": dict(statuses), "slowest_refusal_s": max(refused_s, default=0.0)}
