"""The queue, put together: the only place that knows which parts it is made of."""

import secrets

from aiohttp import web

from libs.common.clock import Clock
from libs.common.events.topics import RESERVATION_OUTCOMES
from libs.common.messaging.consuming import Consumers, Subscription
from libs.common.messaging.opening import open_bus
from libs.common.messaging.outbox import OutboxRelay
from libs.common.messaging.ports import EventBus
from libs.common.storage.opening import open_store
from libs.common.storage.ports import Store
from libs.common.system import SystemClock
from libs.common.tickets import TicketCodec
from libs.common.web.app import HEALTH, base_app, run_in
from libs.common.web.endpoints import bind
from services.queue.handlers import outcomes_handler
from services.queue.jobs import OpenRooms, cycles
from services.queue.metrics import QueueMetrics
from services.queue.repository import JoinKeyRepository, RoomRepository, SessionRepository
from services.queue.routes import ENDPOINTS, Service
from services.queue.service.keeping import Keeping
from services.queue.service.leading import Leading
from services.queue.service.line import Line
from services.queue.service.visitors import Visitors
from services.queue.settings import QueueSettings


def create_app(
    settings: QueueSettings,
    *,
    clock: Clock | None = None,
    store: Store | None = None,
    bus: EventBus | None = None,
    process: str | None = None,
) -> web.Application:
    """The queue's app. Parts that are not given are made from the settings.

    `process` is a name that no other process had or has: a leader that comes back must not take itself for the old one.
    """
    clock = clock or SystemClock()
    metrics = QueueMetrics(settings.room_ids)
    store = store or open_store(settings.store_url, "queue", clock, settings.mongo_driver)
    bus = bus or open_bus(settings.broker_url, settings.instance, clock, metrics)
    relay = OutboxRelay(store, bus, clock, metrics)
    line = Line(
        rooms=RoomRepository(store, metrics, relay.offer),
        sessions=SessionRepository(store, metrics, relay.offer),
        joins=JoinKeyRepository(store, metrics, relay.offer),
        rules=settings.rules,
        clock=clock,
        metrics=metrics,
        process=process or f"{settings.instance}/{secrets.token_hex(4)}",
    )
    visitors = Visitors(line, TicketCodec.from_settings(settings.ticket_keys, settings.ticket_signing_key))
    keeping = Keeping(line, settings.room_capacity)
    leading = [Leading(line, room_id) for room_id in settings.room_ids]
    consumers = Consumers(bus, [Subscription(RESERVATION_OUTCOMES, "queue", outcomes_handler(visitors))])

    app = base_app(settings, clock, metrics)
    app[HEALTH].watch("store", store.ping)
    app[HEALTH].watch("broker", bus.ping, at_first=True)
    app[HEALTH].watch("outbox", relay.ping, at_first=True)
    bind(app, Service(visitors, keeping), ENDPOINTS)
    background = cycles(settings, keeping, leading, clock, metrics)
    run_in(app, store, bus, relay, OpenRooms(keeping, leading), consumers, *background)
    return app
