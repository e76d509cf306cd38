"""All caches at the same time: a process of this machine for each, and one Redis with a database for each."""

import asyncio
import multiprocessing
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import uvloop

from infra.local.child import Probe
from infra.local.redis_server import find_redis_server, redis_child
from loadtest.incident.rivals import RIVALS
from loadtest.incident.sale import Figures, Plan, play

REDIS_S = 10.0
"""For Redis to answer, and to end."""

SLACK_S = 60.0
"""How much longer than its moments a run may take: starting, filling, reads that are under way."""


@contextmanager
def redis_running() -> Iterator[str]:
    """A redis-server on a socket in a folder of its own; its URL. Raises ConfigError where there is none."""
    with tempfile.TemporaryDirectory(prefix="stagedoor-") as folder:
        child = redis_child(find_redis_server(), Path(folder) / "redis.sock", Path(folder))
        process = subprocess.Popen(child.argv, stdout=subprocess.DEVNULL)
        try:
            asyncio.run(_answers(child.ready))
            yield f"unix://{child.socket}"
        finally:
            process.terminate()
            try:
                process.wait(timeout=REDIS_S)
            finally:
                process.kill()


async def _answers(ready: Probe) -> None:
    async with asyncio.timeout(REDIS_S):
        while True:
            with suppress(OSError):
                if await ready():
                    return
            await asyncio.sleep(0.02)


def run(rival: str, plan: Plan, redis_url: str) -> dict[str, Figures]:
    """One cache, from its start to its end, in the process that calls."""
    return uvloop.run(_bounded(rival, plan, redis_url))


async def _bounded(rival: str, plan: Plan, redis_url: str) -> dict[str, Figures]:
    async with asyncio.timeout(sum(plan.moments_s.values()) + SLACK_S):
        return await play(rival, plan, redis_url)


def run_all(plan: Plan) -> dict[str, dict[str, Figures]]:
    """Every cache at the same time, each in a process of its own."""
    fresh = multiprocessing.get_context("spawn")
    with redis_running() as url, ProcessPoolExecutor(len(RIVALS), mp_context=fresh) as processes:
        running = {rival: processes.submit(run, rival, plan, f"{url}?db={db}") for db, rival in enumerate(RIVALS)}
        return {rival: one.result() for rival, one in running.items()}
