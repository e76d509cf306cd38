"""The reservation, put together: the only place that knows which parts it is made of."""

from aiohttp import web

from libs.common.clock import Clock
from libs.common.messaging.consuming import Consumers
from libs.common.messaging.opening import open_bus
from libs.common.messaging.outbox import OutboxRelay
from libs.common.messaging.ports import EventBus
from libs.common.storage.folding import OnStored
from libs.common.storage.opening import open_store
from libs.common.storage.ports import Store
from libs.common.system import SystemClock
from libs.common.web.app import HEALTH, base_app, run_in
from libs.common.web.endpoints import bind
from libs.common.web.upstream import Upstream
from libs.common.web.upstream_http import HttpUpstream
from services.reservation.handlers import consumed_by
from services.reservation.jobs import cycles
from services.reservation.metrics import ReservationMetrics
from services.reservation.ports import Books
from services.reservation.repository.documents import (
    BlockDocuments,
    PaymentKeyDocuments,
    PlaceDocuments,
    ReservationDocuments,
)
from services.reservation.repository.schedules import CatalogSchedules
from services.reservation.repository.tickets import TicketDocuments
from services.reservation.routes import ENDPOINTS
from services.reservation.service import ReservationService
from services.reservation.settings import ReservationSettings


def create_app(
    settings: ReservationSettings,
    *,
    clock: Clock | None = None,
    store: Store | None = None,
    bus: EventBus | None = None,
    catalog: Upstream | None = None,
) -> web.Application:
    """The reservation's app. Parts that are not given are made from the settings."""
    clock = clock or SystemClock()
    metrics = ReservationMetrics()
    store = store or open_store(settings.store_url, "reservation", clock, settings.mongo_driver)
    bus = bus or open_bus(settings.broker_url, settings.instance, clock, metrics)
    catalog = catalog or HttpUpstream("catalog", settings.catalog_url, clock, metrics)
    relay = OutboxRelay(store, bus, clock, metrics)
    books = _books(store, metrics, relay.offer, catalog)
    service = ReservationService(books, settings, clock, metrics, is_heard=relay.is_heard)
    consumers = Consumers(bus, consumed_by(service))

    app = base_app(settings, clock, metrics)
    app[HEALTH].watch("store", store.ping)
    app[HEALTH].watch("broker", bus.ping, at_first=True)
    app[HEALTH].watch("outbox", relay.ping, at_first=True)
    bind(app, service, ENDPOINTS)
    run_in(app, store, bus, relay, catalog, consumers, *cycles(service, settings, clock, metrics))
    return app


def _books(store: Store, metrics: ReservationMetrics, on_stored: OnStored, catalog: Upstream) -> Books:
    reservations = ReservationDocuments(store, metrics, on_stored)
    return Books(
        blocks=BlockDocuments(store, metrics, on_stored),
        reservations=reservations,
        places=PlaceDocuments(store, metrics, on_stored),
        tickets=TicketDocuments(store, metrics, on_stored, reservations.has_confirmed),
        payment_keys=PaymentKeyDocuments(store, metrics, on_stored),
        schedules=CatalogSchedules(catalog),
    )
