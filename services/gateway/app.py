"""The gateway, put together: the only place that knows which parts it is made of."""

import random
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from libs.common import log
from libs.common.clock import Clock
from libs.common.errors import DependencyDown
from libs.common.events.topics import QUEUE_LINE, QUEUE_SESSION
from libs.common.messaging.consuming import Consumers, Listening
from libs.common.messaging.opening import open_bus
from libs.common.messaging.ports import EventBus
from libs.common.system import SystemClock
from libs.common.tickets import TicketCodec
from libs.common.web.app import HEALTH, METRICS, base_app, run_in
from libs.common.web.upstream import Upstream
from libs.common.web.upstream_http import HttpUpstream
from services.gateway.handlers import line_handler, session_handler
from services.gateway.jobs import cycles
from services.gateway.metrics import GatewayMetrics
from services.gateway.routes import add_documentation, add_routes
from services.gateway.service.door import Door
from services.gateway.service.forwarding import Forwarder
from services.gateway.service.gates import Gates
from services.gateway.service.guarded import Chance, GuardedUpstream
from services.gateway.service.limits import RateLimit, Slots
from services.gateway.service.lines import LineTable
from services.gateway.service.pressure import Pressure
from services.gateway.service.queue_client import QueueClient
from services.gateway.service.route_table import PUBLIC_OPERATIONS, forwarded_routes
from services.gateway.service.sessions import SessionTable
from services.gateway.service.turnstile import Turnstile
from services.gateway.service.visits import Visits
from services.gateway.service.waiting import Waiting
from services.gateway.settings import GatewaySettings

HEALTHZ_TIMEOUT_S = 0.4
HTTP_OK = 200

TURNSTILE = web.AppKey("turnstile", Turnstile)

logger = log.get_logger(__name__)


def create_app(
    settings: GatewaySettings,
    *,
    clock: Clock | None = None,
    bus: EventBus | None = None,
    upstreams: Mapping[str, Upstream] | None = None,
    chance: Chance | None = None,
) -> web.Application:
    """The public app, which owns every part. Parts that are not given are made from the settings."""
    clock = clock or SystemClock()
    chance = chance or random.Random().random  # noqa: S311 (spreads pauses, keeps no secret)
    metrics = GatewayMetrics()
    bus = bus or open_bus(settings.broker_url, settings.instance, clock, metrics)
    upstreams = upstreams or _http_upstreams(settings, clock, metrics)

    guarded = {name: GuardedUpstream(upstream, clock, chance, metrics) for name, upstream in upstreams.items()}
    queue = QueueClient(guarded["queue"])
    lines = LineTable(queue, clock)
    sessions = SessionTable(clock, settings.clock_skew_ms, settings.sessions_max)
    metrics.watch_tables(lines.age_s, lambda: len(sessions))
    visits = Visits(sessions, queue, clock, metrics)
    slots = Slots(settings.in_flight_max, metrics)
    gates = Gates(settings.in_flight_max, clock, metrics.shed)
    limit = RateLimit(settings.rate_per_client_per_s, settings.rate_burst, clock, metrics.limited["client"])
    codec = TicketCodec.from_settings(settings.ticket_keys, settings.ticket_signing_key)
    door = Door(codec, _static_tokens(settings), visits, lines, limit=limit, metrics=metrics)
    join_limit = RateLimit(settings.joins_per_address_per_s, settings.joins_burst, clock, metrics.limited["join"])
    waiting = Waiting(
        door, visits, lines, queue, slots=slots, gates=gates, join_limit=join_limit, pace=settings.pace, chance=chance
    )

    async def on_line_gap() -> None:
        await lines.read()

    async def on_session_gap() -> None:
        sessions.doubt_open()

    consumers = Consumers(
        bus,
        [
            Listening(QUEUE_LINE, line_handler(lines), on_line_gap),
            Listening(QUEUE_SESSION, session_handler(sessions), on_session_gap),
        ],
    )
    app = base_app(settings, clock, metrics, shows_metrics=False)
    app[HEALTH].watch("broker", bus.ping, at_first=True)
    app[HEALTH].watch("line", lines.ping)
    for upstream in upstreams.values():
        app[HEALTH].watch(upstream.name, _ping(upstream), at_first=True)
    app[TURNSTILE] = Turnstile(PUBLIC_OPERATIONS, slots, gates, Pressure(clock), metrics)
    add_routes(app, waiting, Forwarder(door, guarded, slots, gates), forwarded_routes(settings.pay_wait_s))
    add_documentation(app)
    # The rooms are read after listening has begun, so that no tick falls between the two.
    run_in(app, *upstreams.values(), bus, consumers, *cycles(lines, sessions, clock, metrics))
    return app


def create_admin_app(settings: GatewaySettings, public: web.Application, clock: Clock | None = None) -> web.Application:
    """The app of the inner port: health and metrics of the public one."""
    return base_app(settings, clock or SystemClock(), public[METRICS], health=public[HEALTH])


def _http_upstreams(settings: GatewaySettings, clock: Clock, metrics: GatewayMetrics) -> dict[str, Upstream]:
    urls = {
        "queue": settings.queue_url,
        "catalog": settings.catalog_url,
        "reservation": settings.reservation_url,
        "wallet": settings.wallet_url,
    }
    return {name: HttpUpstream(name, url, clock, metrics) for name, url in urls.items()}


def _static_tokens(settings: GatewaySettings) -> list[str]:
    tokens = [token.strip() for token in settings.static_tokens.split(",") if token.strip()]
    if tokens:
        logger.warning(
            "STATIC_TOKENS IS SET: whoever sends one of these tokens walks past the waiting line", tokens=len(tokens)
        )
    return tokens


def _ping(upstream: Upstream) -> Callable[[], Awaitable[None]]:
    async def ping() -> None:
        reply = await upstream.call("GET", "/healthz", timeout_s=HEALTHZ_TIMEOUT_S)
        if reply.status != HTTP_OK:
            raise DependencyDown(f"The {upstream.name} service answered {reply.status}.")

    return ping
