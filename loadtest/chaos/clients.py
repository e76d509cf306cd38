"""Clients that are the fault: those who take their time, those who all come at once, those with tickets not their own.
And those that a fault needs, because the crowd does not go there.

The first two run in a process of their own, so that what they cost does not slow down the crowd that is measured.
"""

import asyncio
import contextlib
import multiprocessing
import resource
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import count, pairwise
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp

from libs.common.errors import ConfigError
from loadtest.chaos.actions import tickets
from loadtest.chaos.probes import gateways, token

DRIP_S = 1.0
CLOSED_S = 24.0
"""The edge gives 15 s for a head, or without a request, and then 5 s for a body; 4 s are for a machine at work."""

GIVE_UP_S = CLOSED_S + 4.0
CALL_S = 10.0
HTTP_PORT, HTTPS_PORT = 80, 443
CONNECTING_AT_ONCE = 100
LOST = "not at all"
ANSWERS = ("201", "429 with Retry-After", "503 with Retry-After")
"""What a join may be answered."""

HEAD = (
    b"POST /api/v1/payment HTTP/1.1\r\nHost: %(host)b\r\n"
    b"X-Waiting-Token: %(token)b\r\nContent-Type: application/json\r\n"
)
SHOP_PAUSE_S = 0.1
SHOPPERS = count(950_001)
"""Nobody else is one of them."""

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
    """So many connections of each kind at once. Raises ConfigError when one is refused, or kept for longer than
    `CLOSED_S`: a gateway has files enough for all of them, and whom it refuses it cannot tell from a buyer."""
    counts = {"idle": idle, "dripping head": heads, "dripping body": bodies}
    told: dict[str, Any] = _elsewhere(_slow, gateways()[0], counts)
    if told["refused"]:
        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        raise ConfigError(
            f"{told['refused']} of {sum(counts.values())} connections were refused (ulimit -n: {allowed})"
        )
    if told["kept"]:
        raise ConfigError(f"{told['kept']} connections were kept longer than {CLOSED_S:g} s")
    return told


def rush(per_s: float, seconds: float) -> dict[str, Any]:
    """So many people a second join, from one moment to the next. Raises ConfigError unless everybody is answered, with
    a place in line or a refusal that says when to come again."""
    told: dict[str, Any] = _elsewhere(_rush, gateways()[0], per_s, seconds)
    wrong = {answer: count for answer, count in told["answers"].items() if answer not in ANSWERS}
    if wrong:
        raise ConfigError(f"joins were answered {wrong}")
    return told


def refused(kind: str, count: int, seed: int = 0) -> dict[str, Any]:
    """Attack with so many tickets of a kind. Raises ConfigError unless every single one is refused."""
    told = ATTACKS[kind](count, seed, gateways()[0])
    if told["wrong"] or told["sent"] != told["refused"]:
        raise ConfigError(f"{kind} tickets: {told['refused']} of {told['sent']} refused; {told['wrong']}")
    return told


def shop(seconds: float) -> dict[str, int]:
    """Somebody charges one point after the other and somebody looks at what is on sale, for so many seconds: of the
    crowd nobody needs the wallet's wire, nor, but for schedules that are new to it, the catalog's.

    A charge is sent under one key until it is answered. Returns how many were, and how often the sale was seen. Raises
    ConfigError when a balance is another than the charges make."""
    amounts, seen = asyncio.run(_shopping(gateways()[0], seconds))
    wrong = [(before, after) for before, after in pairwise(amounts) if after != before + 1]
    if wrong:
        raise ConfigError(f"a charge of one point made {wrong[0][0]} points {wrong[0][1]}")
    return {"charged": len(amounts), "looked": seen}


def _elsewhere(work: Callable[..., Any], *arguments: Any) -> Any:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def _slow(url: str, counts: dict[str, int]) -> dict[str, Any]:
    return asyncio.run(_all_slow(url, counts))


async def _all_slow(url: str, counts: dict[str, int]) -> dict[str, Any]:
    connecting = asyncio.Semaphore(CONNECTING_AT_ONCE)
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    lived = await asyncio.gather(*(_lived_s(url, *KINDS[kind], connecting) for kind in kinds))
    known = [seconds for seconds in lived if seconds is not None]
    kept = sum(seconds > CLOSED_S for seconds in known)
    return {"opened": len(known), "refused": len(lived) - len(known), "kept": kept, "longest": max(known, default=0)}


async def _lived_s(url: str, first: bytes, drip: bytes, connecting: asyncio.Semaphore) -> float | None:
    """How long one connection was kept; None for one that was refused, or closed before it could be slow."""
    address = urlsplit(url)
    is_safe = address.scheme == "https"
    port = address.port or (HTTPS_PORT if is_safe else HTTP_PORT)
    try:
        async with connecting, asyncio.timeout(CALL_S):
            reader, writer = await asyncio.open_connection(address.hostname, port, ssl=is_safe or None)
    except OSError:
        return None
    began_s = time.monotonic()
    listening = asyncio.ensure_future(reader.read())
    try:
        writer.write(first % {b"host": address.netloc.encode(), b"token": token().encode()})
        while not listening.done() and time.monotonic() - began_s < GIVE_UP_S:
            await asyncio.wait([listening], timeout=DRIP_S)
            writer.write(drip)
    finally:
        listening.cancel()
        writer.close()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await listening
    lived_s = time.monotonic() - began_s
    return lived_s if lived_s >= DRIP_S else None


def _rush(url: str, per_s: float, seconds: float) -> dict[str, Any]:
    return asyncio.run(_all_at_once(url, per_s, seconds))


async def _all_at_once(url: str, per_s: float, seconds: float) -> dict[str, Any]:
    answers: Counter[str] = Counter()
    timeout = aiohttp.ClientTimeout(total=CALL_S)

    async def join(session: aiohttp.ClientSession) -> None:
        try:
            async with session.post(f"{url}/api/v1/token/create", data=b"{}") as reply:
                await reply.read()
                when = " with Retry-After" if "Retry-After" in reply.headers else ""
                answers[f"{reply.status}{when}"] += 1
        except (aiohttp.ClientError, TimeoutError):
            answers[LOST] += 1

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
    return {"answers": dict(answers)}


async def _shopping(url: str, seconds: float) -> tuple[list[int], int]:
    """The balance after each charge, and how often the sale was seen."""
    amounts: list[int] = []
    seen = 0
    timeout, headers = aiohttp.ClientTimeout(total=CALL_S), {"X-Waiting-Token": token()}

    async def charge(session: aiohttp.ClientSession, user: int) -> None:
        path, body = "/users/charge/point", {"userId": user, "point": 1}
        key = uuid4().hex
        while True:
            named = {"Idempotency-Key": key}
            wallet = await _told(session, "PATCH", f"{url}/api/v1{path}", json=body, headers=named)
            if wallet is not None:
                amounts.append(wallet["amount"])
                key = uuid4().hex
            await asyncio.sleep(SHOP_PAUSE_S)

    async def look(session: aiohttp.ClientSession) -> None:
        nonlocal seen
        while True:
            seen += await _told(session, "GET", f"{url}/api/v1/concert/1/available-schedules") is not None
            await asyncio.sleep(SHOP_PAUSE_S)

    with contextlib.suppress(TimeoutError):
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
            asyncio.timeout(seconds),
            asyncio.TaskGroup() as group,
        ):
            group.create_task(charge(session, next(SHOPPERS)))
            group.create_task(look(session))
    return amounts, seen


async def _told(session: aiohttp.ClientSession, method: str, url: str, **more: Any) -> Any:
    """The JSON of a good answer; None for any other, or none."""
    try:
        async with session.request(method, url, **more) as reply:
            return await reply.json() if reply.ok else None
    except (aiohttp.ClientError, TimeoutError):
        return None
