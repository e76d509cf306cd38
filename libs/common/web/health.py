"""Is the process alive, and can it do its work: `/healthz` and `/readyz`."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import orjson
from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from libs.common import log
from libs.common.clock import Clock
from libs.common.errors import Problem
from libs.common.metrics import CommonMetrics

Ping = Callable[[], Awaitable[None]]

PING_TIMEOUT_S = 0.5
PINGS_VALID_S = 0.2
"""Answers younger than this are told again: a crowd of probes costs one ping."""

logger = log.get_logger(__name__)


class Health:
    """Knows each part a service stands on, and whether the service is about to stop."""

    def __init__(self, clock: Clock, metrics: CommonMetrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._pings: dict[str, Ping] = {}
        self._at_first: set[str] = set()
        self._seen: set[str] = set()
        self._states: dict[str, str] = {}
        self._checked_s = float("-inf")
        self._checking = asyncio.Lock()
        self.draining = False

    def watch(self, name: str, ping: Ping, *, at_first: bool = False) -> None:
        """Readiness from now on asks `ping`: it returns when the part works and raises a Problem when it does not.

        `at_first`: once it has worked, its state is told and no longer decides. For a part whose loss takes away some
        of what the service does, and not all.
        """
        self._pings[name] = ping
        if at_first:
            self._at_first.add(name)

    async def states(self) -> dict[str, str]:
        """Each part's name and `ok`, or the sentence that says what is wrong with it."""
        async with self._checking:  # whoever comes while the parts are being asked waits for their answers
            if self._clock.monotonic_s() - self._checked_s >= PINGS_VALID_S:
                await self._check()
        return {**self._states, **({"process": "draining"} if self.draining else {})}

    def is_ready(self, states: Mapping[str, str]) -> bool:
        """Whether a service whose parts are in these states should be sent requests."""
        forgiven = self._at_first & self._seen
        return all(state == "ok" or name in forgiven for name, state in states.items())

    async def _check(self) -> None:
        results = await asyncio.gather(*(self._ask(name, ping) for name, ping in self._pings.items()))
        self._states = dict(zip(self._pings, results, strict=True))
        self._checked_s = self._clock.monotonic_s()
        for name, state in self._states.items():
            self._metrics.dependency_up.labels(name).set(state == "ok")
        self._seen.update(name for name, state in self._states.items() if state == "ok")

    async def _ask(self, name: str, ping: Ping) -> str:
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                await ping()
        except TimeoutError:
            return f"no answer within {PING_TIMEOUT_S} s"
        except Problem as problem:
            return problem.detail
        except Exception:  # a mistake of ours: the part counts as down, and the others are told as they are
            logger.exception("ping failed", part=name)
            return "The ping itself failed; the log says why."
        return "ok"


def add_health_routes(app: web.Application, health: Health) -> None:
    """`/healthz` and `/readyz`."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(body=b'{"status":"ok"}', content_type="application/json")

    async def readyz(_: web.Request) -> web.Response:
        return await readiness_response(health)

    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)


def add_metrics_route(app: web.Application, metrics: CommonMetrics) -> None:
    """`/metrics`, as Prometheus reads it."""

    async def metrics_page(_: web.Request) -> web.Response:
        metrics.tasks.set(len(asyncio.all_tasks()))
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app.router.add_get("/metrics", metrics_page)


async def readiness_response(health: Health) -> web.Response:
    """200 when the parts that count answer, else 503; the body names each part and its state either way."""
    states = await health.states()
    ready = health.is_ready(states)
    body = orjson.dumps({"status": "ready" if ready else "not ready", "dependencies": states})
    return web.Response(body=body, status=200 if ready else 503, content_type="application/json")
