"""The app every room starts from, and how its parts are started and stopped."""

from collections.abc import AsyncIterator, Callable
from typing import Protocol

from aiohttp import web

from libs.common.clock import Clock
from libs.common.config import ServiceSettings
from libs.common.metrics import CommonMetrics
from libs.common.web.edge import edge
from libs.common.web.health import Health, add_health_routes, add_metrics_route

HEALTH = web.AppKey("health", Health)
METRICS = web.AppKey("metrics", CommonMetrics)

BODY_BYTES_MAX = 16 * 1024


class Part(Protocol):
    """Something with a beginning and an end: a store, a bus, a relay, a job. `stop` is bounded in time."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


def base_app(
    settings: ServiceSettings,
    clock: Clock,
    metrics: CommonMetrics,
    body_bytes_max: int = BODY_BYTES_MAX,
    *,
    health: Health | None = None,
    shows_metrics: bool = True,
) -> web.Application:
    """An app with the edge, `/healthz`, `/readyz` and `/metrics`, and no parts yet.

    A service with a public and an inner port makes two: the public one shows no metrics, the other one shares its
    `health`.
    """
    app = web.Application(
        middlewares=[edge(clock, metrics, settings.request_deadline_s)], client_max_size=body_bytes_max
    )
    app[HEALTH] = health or Health(clock, metrics)
    app[METRICS] = metrics
    add_health_routes(app, app[HEALTH])
    if shows_metrics:
        add_metrics_route(app, metrics)
    return app


def run_in(app: web.Application, *parts: Part) -> None:
    """Start `parts` with the app, in this order; stop them after its last request, in the reverse order."""

    def lifetime(part: Part) -> Callable[[web.Application], AsyncIterator[None]]:
        async def live(_: web.Application) -> AsyncIterator[None]:
            await part.start()
            yield
            await part.stop()

        return live

    app.cleanup_ctx.extend(lifetime(part) for part in parts)
