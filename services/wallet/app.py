"""The wallet, put together: the only place that knows which parts it is made of."""

from aiohttp import web

from libs.common.clock import Clock
from libs.common.events.topics import RESERVATION_PAYMENTS
from libs.common.messaging.consuming import Consumers, Subscription
from libs.common.messaging.opening import open_bus
from libs.common.messaging.outbox import OutboxRelay
from libs.common.messaging.ports import EventBus
from libs.common.storage.opening import open_store
from libs.common.storage.ports import Store
from libs.common.system import SystemClock
from libs.common.web.app import HEALTH, base_app, run_in
from libs.common.web.endpoints import bind
from services.wallet.handlers import payments_handler
from services.wallet.jobs import cycles
from services.wallet.metrics import WalletMetrics
from services.wallet.repository import LedgerRepository
from services.wallet.routes import ENDPOINTS
from services.wallet.service import WalletService
from services.wallet.settings import WalletSettings


def create_app(
    settings: WalletSettings, *, clock: Clock | None = None, store: Store | None = None, bus: EventBus | None = None
) -> web.Application:
    """The wallet's app. Parts that are not given are made from the settings."""
    clock = clock or SystemClock()
    metrics = WalletMetrics()
    store = store or open_store(settings.store_url, "wallet", clock, settings.mongo_driver)
    bus = bus or open_bus(settings.broker_url, settings.instance, clock, metrics)
    relay = OutboxRelay(store, bus, clock, metrics)
    service = WalletService(LedgerRepository(store, metrics, relay.offer), clock, metrics, settings.clock_skew_ms)
    consumers = Consumers(bus, [Subscription(RESERVATION_PAYMENTS, "wallet", payments_handler(service))])

    app = base_app(settings, clock, metrics)
    app[HEALTH].watch("store", store.ping)
    app[HEALTH].watch("broker", bus.ping, at_first=True)
    app[HEALTH].watch("outbox", relay.ping, at_first=True)
    bind(app, service, ENDPOINTS)
    run_in(app, store, bus, relay, consumers, *cycles(service, clock, metrics))
    return app
