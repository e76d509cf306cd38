"""The product with two copies of every service, on shared stores, one broker and a network, all in one event loop.

The same apps as in production, made by the same `create_app`s. What differs between two worlds of one seed is nothing:
time is virtual, every choice comes from the seed, and so do the keys and trace ids that are random elsewhere.
"""

import asyncio
import random
from asyncio import events, tasks
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from aiohttp import web
from prometheus_client import Counter, Gauge, Histogram

from libs.common import trace
from libs.common.messaging.ports import Message
from libs.common.metrics import CommonMetrics
from libs.common.testing.virtual import LoopClock
from libs.common.web import idempotency
from services.catalog import jobs as catalog_jobs
from services.catalog.app import create_app as create_catalog
from services.catalog.settings import CatalogSettings
from services.gateway import app as gateway_app
from services.gateway import jobs as gateway_jobs
from services.gateway.app import create_app as create_gateway
from services.gateway.settings import GatewaySettings
from services.queue.app import create_app as create_queue
from services.queue.settings import QueueSettings
from services.reservation.app import create_app as create_reservation
from services.reservation.domain import layout
from services.reservation.settings import ReservationSettings
from services.wallet.app import create_app as create_wallet
from services.wallet.settings import WalletSettings
from tests.simulation.broker import BusDoor, FaultyBroker
from tests.simulation.faults import COPIES, DOWN_S, SERVICES, Faults, Plan
from tests.simulation.history import History
from tests.simulation.instances import Instance, owned_task
from tests.simulation.invariants.watch import Watch
from tests.simulation.network import Network, UpstreamDoor
from tests.simulation.patching import attribute
from tests.simulation.storing import Commit, StoreDoor, Truth

TICKET_KEYS = "1:" + "5a" * 16
READY_WITHIN_S = 30.0
STARTS_AGAIN_S = 1.0
BLOCK_SEATS_MAX = 6
"""Seats of a block in here: schedules of several blocks with few seats, so that buyers meet."""

SETTINGS: dict[str, Any] = {
    "queue": QueueSettings,
    "catalog": CatalogSettings,
    "reservation": ReservationSettings,
    "wallet": WalletSettings,
    "gateway": GatewaySettings,
}


class World:
    """Everything of one run. `knobs` are settings by their names, given to every service that has them."""

    def __init__(
        self,
        seed: int,
        plan: Plan,
        knobs: dict[str, Any],
        *,
        keeps_history: bool = False,
        clocks_are_bounded: bool = True,
    ) -> None:
        self.seed = seed
        self.clock = LoopClock()
        self.history = History(self.clock.monotonic_s, keeps=keeps_history)
        self.faults = Faults(seed, plan, self.history)
        self.network = Network(self.faults)
        self.knobs = {"ticket_keys": TICKET_KEYS, **knobs}
        self.watch = Watch(self.clock, self.history, self.knobs, clocks_are_bounded=clocks_are_bounded)
        self.broker = FaultyBroker(self.clock, self.faults, self._published, self.errand)
        self.stores = {name: Truth(self.clock, name, self._committed) for name in SERVICES if name != "gateway"}
        self.instances: dict[str, Instance] = {}
        self.graveyard: list[Instance] = []
        self.event_count = 0
        self._lives = 0
        self._settings_of = {service: self._settings(service) for service in SERVICES}
        self._bus_metrics = {service: CommonMetrics(service) for service in SERVICES}
        self._errands: dict[asyncio.Task[None], None] = {}

    async def start_all(self) -> None:
        asyncio.get_running_loop().set_task_factory(cast("Any", owned_task))
        for service in SERVICES:
            for copy in COPIES:
                await self.start(service, copy)

    async def start(self, service: str, copy: int) -> None:
        """Start a copy on what its store has kept, again and again until it stands."""
        while True:
            self._lives += 1
            name = f"{service}-{copy}"
            instance = Instance(service, copy, self._lives, self.faults.plan.skews_ms.get(name, 0))
            self.instances[name] = instance
            self.history.add("start", name, str(instance.life))
            starting = asyncio.create_task(self._start(instance), context=instance.context.copy())
            await asyncio.wait({starting})
            if instance.is_alive and not starting.cancelled() and starting.exception() is None:
                instance.is_serving = True
                self.network.serving[name] = instance
                return
            self._end(instance)
            await asyncio.sleep(STARTS_AGAIN_S)

    def crash(self, instance: Instance, down_s: float | None = None) -> None:
        """End a process as kill -9 would, and start it again after a while."""
        if not instance.is_alive:
            return
        self.history.add("crash", instance.name, str(instance.life))
        was_serving = self.network.serving.get(instance.name) is instance
        self._end(instance)
        if was_serving:
            pause_s = self.faults.chance.uniform(*DOWN_S) if down_s is None else down_s
            self.errand(self._start_later(instance, pause_s))

    def die_at(self, instance: Instance, point: str) -> None:
        """A named point is reached by an instance, in one of its own tasks."""
        if instance.is_alive and self.faults.is_fatal(point, instance.name):
            self.crash(instance)
            raise asyncio.CancelledError(f"{instance.name} died {point}")

    def errand(self, work: Any) -> None:
        """Something that nobody waits for, done on behalf of no instance."""
        task = asyncio.create_task(work, context=self.network.nobody())
        self._errands[task] = None
        task.add_done_callback(self._errands.pop)

    def end(self) -> None:
        for instance in self.instances.values():
            self._end(instance)

    def _end(self, instance: Instance) -> None:
        self.network.serving.pop(instance.name, None)
        if instance.bus is not None:
            instance.bus.crash()
        instance.kill()
        # Kept until the run is over: what a dead process holds must not be collected at some point of the next.
        self.graveyard.append(instance)

    async def _start_later(self, instance: Instance, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        await self.start(instance.service, instance.copy)

    async def _start(self, instance: Instance) -> None:
        instance.app = self._app(instance)
        instance.app.freeze()
        await instance.app.startup()

    def _app(self, instance: Instance) -> web.Application:
        service, name = instance.service, instance.name
        bus = instance.bus = BusDoor(self.broker, instance, self._bus_metrics[service], self.die_at)
        settings = self._settings_of[service]
        chance = random.Random(f"{self.seed}/{name}/{instance.life}").random
        upstreams = {each: UpstreamDoor(self.network, instance, each) for each in SERVICES}
        parts: dict[str, Any] = {"clock": instance.clock, "bus": bus}
        if service == "gateway":
            reached = {each: upstreams[each] for each in SERVICES if each != "gateway"}
            return create_gateway(settings, upstreams=reached, chance=chance, **parts)
        parts["store"] = StoreDoor(self.stores[service], instance, self.faults, self.die_at)
        if service == "queue":
            return create_queue(settings, process=f"{name}/{instance.life}", **parts)
        if service == "catalog":
            return create_catalog(settings, reservation=upstreams["reservation"], chance=chance, **parts)
        if service == "reservation":
            return create_reservation(settings, catalog=upstreams["catalog"], **parts)
        return create_wallet(settings, **parts)

    def _settings(self, service: str) -> Any:
        kind = SETTINGS[service]
        return kind(**{name: value for name, value in self.knobs.items() if name in kind.model_fields})

    def _committed(self, commit: Commit) -> None:
        self.event_count += len(commit.events)
        self.watch.committed(commit)

    def _published(self, message: Message) -> None:
        self.watch.published(message)


@contextmanager
def seeded(seed: int, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Let everything that is random in production, and is not passed in, follow from the seed as well."""
    running = vars(tasks)["_current_tasks"]
    undo = [
        attribute(idempotency, "secrets", _Tokens(random.Random(f"{seed}/secrets"))),
        attribute(layout, "BLOCK_SEATS_MAX", BLOCK_SEATS_MAX),
        # Nobody reads the documentation in here, and writing it is most of a gateway's start.
        attribute(gateway_app, "add_documentation", lambda _: None),
        # Nor does anybody look at the metrics, which are a tenth of everything.
        attribute(Counter, "inc", lambda *_: None),
        attribute(Gauge, "set", lambda *_: None),
        attribute(Histogram, "observe", lambda *_: None),
        # Four looks a second into what is hardly ever due would be a third of all steps.
        attribute(catalog_jobs, "LOOK_EVERY_S", 1.0),
        attribute(catalog_jobs, "KEEP_WARM_EVERY_S", 1.0),
        attribute(gateway_jobs, "READ_ROOMS_EVERY_S", 1.0),
        # There is one loop and no fork; Python 3.11 asks the kernel for the process with every look.
        attribute(events, "get_running_loop", lambda: loop),
        attribute(tasks, "current_task", lambda _=None: running.get(loop)),
    ]
    trace._chance.seed(seed)
    try:
        yield
    finally:
        for step in undo:
            step()
        trace._chance.seed()


class _Tokens:
    """As much of the module `secrets` as `libs.common.web.idempotency` uses."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def token_hex(self, byte_count: int) -> str:
        return f"{self._chance.getrandbits(8 * byte_count):0{2 * byte_count}x}"
