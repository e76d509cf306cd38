"""One seed from the first ticket to the last check: a quiet start, a storm, and what is left when it has passed."""

import asyncio
import gc
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import structlog
from aiohttp import web_app

from libs.common.messaging.delivery import error_text
from libs.common.testing.virtual import VirtualLoop
from libs.common.tickets import TicketCodec
from libs.common.web.upstream_memory import serve_in_memory
from tests.buyer import SEAT_PRICE
from tests.simulation import faults
from tests.simulation.buyers import SCHEDULES, Shopper
from tests.simulation.clients import Client
from tests.simulation.faults import COPIES
from tests.simulation.invariants import rest
from tests.simulation.invariants.answers import AnswerWatch
from tests.simulation.invariants.findings import Finding
from tests.simulation.points import POINTS
from tests.simulation.world import READY_WITHIN_S, TICKET_KEYS, World, seeded

CLOCK_SKEW_S = 2.0
STORM_S = 200.0
BUYERS = (18, 40)
USERS_FIRST = 100
REST_MARGIN_S = 60.0
BUYERS_END_WITHIN_S = 420.0
LINE_ENDS_WITHIN_S = 900.0
VIEW_WITHIN_S = 2.0
UNPUBLISHED_MS = 2_000
"""Age of an event in the outbox that counts as unpublished: every second some room tells where its line stands."""
CONCERT = 1


@dataclass
class Result:
    """What a run came to. `real_s` is what it took of one core, `simulated_s` how long it was in there."""

    seed: int
    hash: str = ""
    simulated_s: float = 0.0
    real_s: float = 0.0
    findings: list[Finding] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    story: list[str] = field(default_factory=list)


def run_seed(seed: int, *, keeps_history: bool = False, jumps: bool = False) -> Result:
    """Run one seed in this process. `jumps`: clocks leave their bound, and only what must hold even then is checked."""
    result = Result(seed)
    # Collected once, at the end: in between it would cost a tenth of the time.
    gc.disable()
    began_s = time.process_time()
    play = _Play(seed, result, keeps_history=keeps_history, jumps=jumps)
    try:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner, seeded(seed, runner.get_loop()):
            runner.run(play.play())
    except Exception as failure:  # noqa: BLE001  a run that cannot go on is a finding, whatever ended it
        result.findings.append(Finding("I8", f"the run came to an end: {error_text(failure)}"))
    finally:
        # aiohttp remembers the handlers of the last thousand routes, and with them whole systems.
        web_app._cached_build_middleware.cache_clear()
        del play  # or its world is looked through now, and again when the next one has ended
        gc.collect()
        gc.enable()
    result.real_s = time.process_time() - began_s
    return result


class _Play:
    def __init__(self, seed: int, result: Result, *, keeps_history: bool, jumps: bool) -> None:
        self.seed = seed
        self.result = result
        self.chance = random.Random(f"{seed}/play")
        self.knobs = _knobs(self.chance)
        self.plan = faults.drawn(seed, STORM_S, CLOCK_SKEW_S, POINTS, jumps=jumps)
        self.jumps = jumps
        self.keeps_history = keeps_history

    async def play(self) -> None:
        self.world = world = World(
            self.seed, self.plan, self.knobs, keeps_history=self.keeps_history, clocks_are_bounded=not self.jumps
        )
        watch = world.watch
        self.result.findings = watch.findings.found
        codec = TicketCodec.from_settings(TICKET_KEYS, 1)
        self.answers = AnswerWatch(watch.findings, world.history, watch, codec)
        self.opening: dict[int, int] = {}
        asyncio.get_running_loop().set_exception_handler(_unheard)
        with _said(watch.said):
            await self._prepare()
            await self._storm()
            await self._settle()
        self._note()
        world.end()

    async def _prepare(self) -> None:
        world = self.world
        await world.start_all()
        async with asyncio.timeout(READY_WITHIN_S):
            while not all([await self._ready(f"gateway-{copy}") for copy in COPIES]):
                await world.clock.sleep(0.25)
            await self._inside("catalog-1", "PUT", f"/internal/v1/concerts/{CONCERT}", _concert())
        for user in range(USERS_FIRST, USERS_FIRST + BUYERS[1]):
            if self.chance.random() < 0.5:
                points = self.opening[user] = self.chance.choice((0, 10_000, 25_000, 60_000))
                await self._inside("wallet-1", "PUT", f"/internal/v1/wallets/{user}", {"amount": points})

    async def _storm(self) -> None:
        world, plan = self.world, self.plan
        self.shoppers = [asyncio.create_task(self._shopper(n)) for n in range(self.chance.randint(*BUYERS))]
        world.errand(self._operate())
        world.faults.calm.clear()
        for at_s, name in plan.kills:
            world.errand(self._kill(at_s, name))
        for at_s, name, for_s in plan.pauses:
            world.errand(self._pause(at_s, name, for_s))
        for at_s, for_s in plan.broker_down:
            world.errand(self._take_broker_down(at_s, for_s))
        for at_s, for_s in plan.broker_lost:
            world.errand(self._lose_broker(at_s, for_s))
        for at_s, name, by_ms, for_s in plan.jumps:
            world.errand(self._jump(at_s, name, by_ms, for_s))
        await asyncio.sleep(STORM_S)
        world.faults.calm.set()

    async def _shopper(self, number: int) -> None:
        chance = random.Random(f"{self.seed}/shopper/{number}")
        user = USERS_FIRST + (number if chance.random() < 0.8 else chance.randrange(number + 1))
        # Most come in two crowds, the rest at any time.
        crowd_s = chance.choice((0.0, 0.0, STORM_S / 3))
        await asyncio.sleep(crowd_s + chance.uniform(0, 3) if chance.random() < 0.7 else chance.uniform(0, STORM_S))
        client = Client(self.world.network, self.answers, user, chance)
        await Shopper(client, user, self.world.clock, chance, self.knobs).visit()

    async def _operate(self) -> None:
        """An operator refunds one now and then."""
        chance = random.Random(f"{self.seed}/operator")
        while True:
            await asyncio.sleep(chance.uniform(5, 40))
            sold = [id_ for id_, each in self.world.watch.sale.reservations.items() if each["status"] == "CONFIRMED"]
            if self.world.faults.is_on and sold and chance.random() < 0.6:
                id_ = chance.choice(sold)
                self.answers.acked.refunded.add(id_)
                name = f"reservation-{chance.choice(COPIES)}"
                path = f"/internal/v1/reservations/{id_}/refund"
                await self._inside(name, "POST", path, {"who": "operator", "why": "simulated"}, must=False)

    async def _kill(self, at_s: float, name: str) -> None:
        await asyncio.sleep(at_s)
        self.world.faults.note("kill", name)
        self.world.crash(self.world.instances[name])

    async def _pause(self, at_s: float, name: str, for_s: float) -> None:
        await asyncio.sleep(at_s)
        instance = self.world.instances[name]
        self.world.faults.note("pause", f"{name} {for_s:.1f}")
        instance.pause()
        await self.world.faults.lasts(for_s)
        self.world.history.add("resume", name)
        instance.resume()

    async def _take_broker_down(self, at_s: float, for_s: float) -> None:
        await asyncio.sleep(at_s)
        self.world.faults.note("broker_down", f"{for_s:.1f}")
        self.world.broker.down = True
        await self.world.faults.lasts(for_s)
        self.world.broker.down = False

    async def _lose_broker(self, at_s: float, for_s: float) -> None:
        await asyncio.sleep(at_s)
        self.world.faults.note("broker_lost", f"what it took in {for_s:.1f} s")
        self.world.broker.is_stuck = True
        await self.world.faults.lasts(for_s)
        self.world.broker.lose_everything()

    async def _jump(self, at_s: float, name: str, by_ms: int, for_s: float) -> None:
        await asyncio.sleep(at_s)
        clock = self.world.instances[name].clock
        self.world.faults.note("clock_jump", f"{name} {by_ms}")
        clock.jumped_ms = by_ms
        await self.world.faults.lasts(for_s)
        clock.jumped_ms = 0

    async def _settle(self) -> None:
        """Wait, within bounds, until everything is at rest; what is not is a finding. Then compare everything."""
        world = self.world
        watch, findings = world.watch, world.watch.findings
        jump_ms = max((abs(by_ms) for _, _, by_ms, _ in self.plan.jumps), default=0)
        await asyncio.sleep(self.knobs["pay_deadline_s"] + REST_MARGIN_S + jump_ms / 1000)
        grace_ms = round((self.knobs["pay_deadline_s"] + REST_MARGIN_S) * 1000)
        late = rest.overdue(watch.sale.reservations, world.clock.now_ms(), grace_ms + jump_ms)
        findings.check(not late, "I8", f"overdue: {late}", [each.split()[0] for each in late])
        await self._until(lambda: all(task.done() for task in self.shoppers), BUYERS_END_WITHIN_S)
        for task in self.shoppers:
            task.cancel()
        await asyncio.gather(*self.shoppers, return_exceptions=True)
        await self._until(lambda: not rest.outside(watch), LINE_ENDS_WITHIN_S)
        await self._until(
            lambda: not self._unrest(), self.knobs["hold_s"] + self.knobs["pay_deadline_s"] + REST_MARGIN_S
        )
        await self._until(lambda: world.clock.monotonic_s() - watch.seats_moved_s >= VIEW_WITHIN_S, VIEW_WITHIN_S)
        unrest = self._unrest() + [f"{place} is still in line" for place in rest.outside(watch)]
        findings.check(not unrest, "I8", f"not at rest: {unrest}"[:2000], [each.split()[0] for each in unrest])
        await self._compare()

    async def _compare(self) -> None:
        world, watch = self.world, self.world.watch
        layouts = {
            schedule: [seat for section in sections for seat in section] for schedule, sections in SCHEDULES.items()
        }
        if not any(finding.invariant == "I8" for finding in watch.findings.found):
            rest.check_accounts(watch, self.answers, self.opening)
            rest.check_seats(watch, layouts)
        self.answers.compare()
        watch.check_told({id_ for store in world.stores.values() for id_ in store.outbox})
        for copy in COPIES:
            for schedule in SCHEDULES:
                path = f"/api/v1/concert/{schedule}/available-seats"
                body = await self._inside(f"catalog-{copy}", "GET", path, None)
                rest.check_view(watch, f"catalog-{copy}", schedule, body, layouts)
        for (topic, group), letters in world.broker.letters.items():
            for letter in letters.values():
                watch.findings.add("I10", f"dead letter of {group} on {topic}: {letter.error}", letter.message.key)
        for instance in world.instances.values():
            for consumer in instance.bus._consumers:
                failure = consumer.crew.failure
                watch.findings.check(
                    not failure, "I10", f"{instance.name} stopped consuming {consumer.topic}: {failure}"
                )

    def _unrest(self) -> list[str]:
        world = self.world
        found = rest.restless(world.watch.sale.reservations)
        stored_ms = world.clock.now_ms() - UNPUBLISHED_MS
        for store in world.stores.values():
            found += [f"{id_} is not published" for id_, (_, at_ms) in store.outbox.items() if at_ms < stored_ms]
        for topic, log in world.broker.logs.items():
            found += [f"{group} lags on {topic}" for group in log.groups if world.broker.lag(topic, group)]
        found += [f"{name} is down" for name, instance in world.instances.items() if not instance.is_serving]
        return found

    async def _until(self, condition: Any, within_s: float) -> None:
        ends_s = self.world.clock.monotonic_s() + within_s
        while not condition() and self.world.clock.monotonic_s() < ends_s:
            await self.world.clock.sleep(1.0)

    async def _ready(self, name: str) -> bool:
        instance = self.world.instances[name]
        reply = await self._serve(instance, "GET", "/readyz", b"")
        return bool(reply.status == 200)

    async def _inside(self, name: str, method: str, path: str, json: Any, *, must: bool = True) -> bytes:
        """A call behind the gateway, as an operator or the loader makes it: once, and without the network's faults."""
        body = b"" if json is None else orjson.dumps(json)
        instance = self.world.instances[name]
        if not instance.is_serving:
            return b""
        reply = await self._serve(instance, method, path, body)
        assert not must or (reply is not None and reply.status == 200), reply
        return reply.body if reply is not None else b""

    async def _serve(self, instance: Any, method: str, path: str, body: bytes) -> Any:
        headers = {"Content-Type": "application/json", "X-Ticket": "inside"}
        task = asyncio.create_task(
            serve_in_memory(instance.app, method, path, headers, body), context=instance.context.copy()
        )
        await asyncio.wait({task})
        return None if task.cancelled() else task.result()

    def _note(self) -> None:
        world, result = self.world, self.result
        result.hash = world.history.hash()
        result.simulated_s = world.clock.monotonic_s()
        result.faults = world.faults.counts
        result.counts = Counter(
            sales=world.watch.sale.sales_count,
            events=world.event_count,
            answers=world.history.counts["answer"],
            commits=world.history.counts["commit"],
            visits=world.watch.line.admitted_count,
            starts=world.history.counts["start"],
        )
        if self.keeps_history:
            subjects = {name for finding in result.findings for name in finding.subjects}
            result.story = world.history.about(subjects) if subjects else [line for _, line in world.history.lines]


def _knobs(chance: random.Random) -> dict[str, Any]:
    """Times short enough that every one of them runs out within a run, in proportions like those of production."""
    return {
        "clock_skew_s": CLOCK_SKEW_S,
        "room_capacity": chance.randint(3, 12),
        "claim_window_s": chance.choice((10.0, 20.0)),
        "session_s": chance.choice((60.0, 100.0)),
        "hold_s": chance.choice((20.0, 45.0)),
        "pay_deadline_s": chance.choice((15.0, 30.0)),
        "max_seats_per_user": 4,
        "sweep_s": 1.0,
    }


def _concert() -> dict[str, Any]:
    return {
        "id": CONCERT,
        "title": "Simulated",
        "venue": "Loop Hall",
        "room": 1,
        "schedules": [
            {
                "id": schedule,
                "startsAt": "2027-03-01T19:00:00Z",
                "sections": [
                    {
                        "name": f"S{index}",
                        "rows": [
                            {"name": "1", "seats": [{"id": n, "number": str(n), "price": SEAT_PRICE} for n in seats]}
                        ],
                    }
                    for index, seats in enumerate(sections)
                ],
            }
            for schedule, sections in SCHEDULES.items()
        ],
    }


def _unheard(_: asyncio.AbstractEventLoop, __: dict[str, Any]) -> None:
    """Processes that died, and runs that were cut short, leave tasks and results that nobody asks for."""


@contextmanager
def _said(broken: Callable[[structlog.typing.EventDict], None]) -> Iterator[None]:
    """No log of a run is shown; what a service says at level error is a finding."""

    def hear(_: Any, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if method in ("error", "exception", "critical"):
            broken(event)
        raise structlog.DropEvent

    kept = structlog.get_config()
    structlog.configure(
        processors=[structlog.processors.format_exc_info, hear],
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**kept)
