"""The catalog, put together: the only place that knows which parts it is made of."""

import random
from collections.abc import Callable

from aiohttp import web

from libs.common.clock import Clock
from libs.common.contract.catalog import PUBLISH_BYTES_MAX
from libs.common.events.topics import CATALOG_SCHEDULES, RESERVATION_SEATS
from libs.common.messaging.consuming import Consumers, Listening
from libs.common.messaging.opening import open_bus
from libs.common.messaging.outbox import OutboxRelay
from libs.common.messaging.ports import EventBus
from libs.common.redis_client import RedisClient
from libs.common.storage.opening import open_store
from libs.common.storage.ports import Store
from libs.common.system import SystemClock
from libs.common.web.app import HEALTH, base_app, run_in
from libs.common.web.endpoints import bind
from libs.common.web.upstream import Upstream
from libs.common.web.upstream_http import HttpUpstream
from services.catalog.handlers import schedules_handler, seats_handler
from services.catalog.jobs import cycles
from services.catalog.metrics import CatalogMetrics
from services.catalog.ports import SharedCache
from services.catalog.repository import CatalogRepository, RedisCache, ReservationSeats
from services.catalog.routes import ENDPOINTS
from services.catalog.service.cache import Lifetime
from services.catalog.service.catalog import CatalogService
from services.catalog.service.library import Library, Limits
from services.catalog.service.snapshots import Snapshots
from services.catalog.service.view import View
from services.catalog.settings import CatalogSettings


def create_app(
    settings: CatalogSettings,
    *,
    clock: Clock | None = None,
    store: Store | None = None,
    bus: EventBus | None = None,
    reservation: Upstream | None = None,
    shared: SharedCache | None = None,
    chance: Callable[[], float] = random.random,
) -> web.Application:
    """The catalog's app. Parts that are not given are made from the settings."""
    clock = clock or SystemClock()
    metrics = CatalogMetrics()
    store = store or open_store(settings.store_url, "catalog", clock, settings.mongo_driver)
    bus = bus or open_bus(settings.broker_url, settings.instance, clock, metrics)
    reservation = reservation or HttpUpstream("reservation", settings.reservation_url, clock, metrics)
    redis = RedisCache(RedisClient(settings.redis_url)) if settings.redis_url and shared is None else None
    relay = OutboxRelay(store, bus, clock, metrics)
    shelf = CatalogRepository(store, metrics, relay.offer)
    library = Library(shelf, shared or redis, _limits(settings), clock, metrics, chance=chance)
    view = View(metrics)
    snapshots = Snapshots(
        ReservationSeats(reservation), library, view, clock, metrics, every_s=settings.snapshot_every_s
    )
    service = CatalogService(shelf, library, view, clock, metrics, answer_every_s=settings.answer_every_s)
    consumers = Consumers(
        bus,
        [
            Listening(RESERVATION_SEATS, seats_handler(service), snapshots.after_gap),
            Listening(CATALOG_SCHEDULES, schedules_handler(service), library.after_gap),
        ],
    )

    app = base_app(settings, clock, metrics, body_bytes_max=PUBLISH_BYTES_MAX)
    # Without its store or its broker the catalog goes on telling what it knows: a hold decides, not the catalog.
    app[HEALTH].watch("store", store.ping, at_first=True)
    app[HEALTH].watch("broker", bus.ping, at_first=True)
    app[HEALTH].watch("outbox", relay.ping, at_first=True)
    app[HEALTH].watch("cache", library.ping)
    app[HEALTH].watch("view", snapshots.ping)
    bind(app, service, ENDPOINTS)
    # Listening comes before the jobs: the first snapshot must not miss what is said while it is read.
    parts = (store, bus, relay, *((redis,) if redis else ()), reservation, library, consumers)
    run_in(app, *parts, *cycles(library, snapshots, clock, metrics))
    return app


def _limits(settings: CatalogSettings) -> Limits:
    return Limits(
        concerts=Lifetime(settings.concert_ttl_s, settings.stale_s, settings.absent_ttl_s),
        schedules=Lifetime(settings.schedule_ttl_s, settings.stale_s, settings.absent_ttl_s),
        seats_max=settings.cached_seats_max,
    )
