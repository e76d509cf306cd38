"""What every experiment plays on: a system with buyers and a line, and the account of it all once the faults are over.

    system starts ── buyers at work, people in line ── a few purchases ── faults ── last purchases ── everybody is let
    in ── Sale.audit: each purchase confirmed and paid for, or neither ── the auditor, with all that clients saw

A process that was killed is back when everything is ready again: each service asked by itself, and the gateway.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from infra.local.control import ask
from infra.local.settings import ROOMS
from infra.local.system import control_socket
from libs.common.errors import ConfigError
from libs.common.testing.app_client import Answered
from libs.common.testing.eventually import eventually
from tests.e2e.conftest import HttpCaller, now_ms
from tests.e2e.sale import Sale, is_not_now
from tests.e2e.system import BACKEND_NAMES, RunningSystem, running_system
from tests.kills.effort import ALL_SEEN, Seen
from tests.kills.line import Line

BUYERS, PEOPLE = 6, 36
ROOM_CAPACITY = "3"
KNOBS = {"DEMO_SCHEDULES": "60", "DEMO_USERS": str(BUYERS + PEOPLE), "ROOM_CAPACITY": ROOM_CAPACITY}
PURCHASES_BETWEEN = (4, 12)
"""Purchases between a start, or a fault, and the next fault."""

SESSION_USUAL_S = 600.0
READY_AGAIN_S = 5.0
GIVE_UP_S = 60.0
SETTLED_S = 60.0
NAMES = (*ROOMS, *BACKEND_NAMES)
"""Every process of a system, by name."""

IN_JAVA = ("kafka", "mongo")
"""They take longer to boot; what stands on them is given `READY_AGAIN_S` from when they answer."""

LOST = Answered(0, {}, b"")


class Insisting(HttpCaller):
    """Counts what its callers have to send again, and writes down what was never answered."""

    again_count = 0

    async def call(
        self, method: str, path: str, json: Any = None, *, headers: Mapping[str, str] | None = None, raw: bytes = b""
    ) -> Answered:
        sent_ms = now_ms()
        try:
            answer = await super().call(method, path, json, headers=headers, raw=raw)
        except (aiohttp.ClientError, TimeoutError):
            self.again_count += 1
            self._history.add(method, path, json, headers or {}, (sent_ms, now_ms()), LOST)
            raise
        self.again_count += is_not_now(answer)
        return answer


@dataclass
class Stage:
    """What an experiment acts on. `chance` is the seed's."""

    system: RunningSystem
    session: aiohttp.ClientSession
    sale: Sale
    line: Line
    seen: Seen
    chance: random.Random
    at_rest: Callable[[], Awaitable[None]] | None = None
    """What is still to be tried once everything has settled."""

    async def some_purchases(self) -> None:
        """Wait for a drawn number of purchases, then a little more: nobody is where they were at the last one."""
        await self.sale.reach(self.chance.randint(*PURCHASES_BETWEEN), GIVE_UP_S)
        await asyncio.sleep(self.chance.uniform(0, 0.3))

    async def rows(self) -> dict[str, dict[str, Any]]:
        """Each process by its name, as the supervisor has it."""
        return {row["name"]: row for row in (await self._ask("status"))["services"]}

    async def _ask(self, verb: str, name: str | None = None) -> dict[str, Any]:
        return await asyncio.to_thread(lambda: ask(control_socket(self.system.state_dir), verb, name))

    async def tell(self, verb: str, name: str) -> None:
        """Have the supervisor kill, pause, resume or restart a process, as soon as there is one to act on."""

        async def is_done() -> bool:
            try:
                await self._ask(verb, name)
            except ConfigError:  # it is not running at this moment
                return False
            return True

        await eventually(is_done, GIVE_UP_S, f"{verb} {name}")

    async def ended(self, verb: str, name: str) -> None:
        """Kill or restart a process, and see another one in its place and everything ready within its time."""
        before = (await self.rows())[name]["pid"]
        began_s = time.monotonic()
        await self.tell(verb, name)
        self.seen.faults.append(f"{verb} {name}")
        await self._back(name, before, began_s)

    async def _back(self, name: str, before: int, began_s: float) -> None:
        row: dict[str, Any] = {}

        async def is_up() -> bool:
            row.update((await self.rows())[name])
            return row["pid"] not in (None, before) and (name not in IN_JAVA or row["state"] == "ready")

        await eventually(is_up, GIVE_UP_S, f"another {name}")
        up_s = time.monotonic() - (0.0 if name in IN_JAVA else row["uptimeS"])
        await self.ready_since(up_s, began_s, name)

    async def ready_since(self, up_s: float, began_s: float, what: str) -> None:
        """Everything is ready within its time from `up_s`; `began_s` is when the fault began (monotonic)."""
        await eventually(self.all_ready, GIVE_UP_S, f"everything ready after {what}")
        now_s = time.monotonic()
        self.seen.ready_s.append(now_s - up_s)
        self.seen.away_s.append(now_s - began_s)
        assert now_s - up_s <= READY_AGAIN_S, f"ready {now_s - up_s:.1f} s after {what} was back"

    async def all_ready(self) -> bool:
        """Whether each service says it can do its work, and misses nothing. Asked of them: the supervisor looks every
        two seconds."""
        ports = [row["port"] for name, row in (await self.rows()).items() if name in ROOMS]
        return all(await asyncio.gather(*(self._is_ready(port) for port in ports)))

    async def _is_ready(self, port: int) -> bool:
        try:
            async with self.session.get(f"http://127.0.0.1:{port}/readyz") as reply:
                states = (await reply.json())["dependencies"].values()
                return reply.status == 200 and set(states) == {"ok"}
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def everybody_in(self) -> None:
        """Nobody else has to wait: who still stands in line was not lost."""
        words = ("room", "1", "--who", "kills", "--why", "the faults are over", "--capacity", str(PEOPLE))
        await asyncio.to_thread(self.system.act, *words)

    async def settled(self, ended_s: float) -> None:
        """Each purchase at its end, one way or the other, within the time from the end of the last fault."""
        self.sale.purchases += self.line.purchases
        await self.sale.audit(SETTLED_S - (time.monotonic() - ended_s))
        self.seen.settle_s = time.monotonic() - ended_s
        assert len(self.line.purchases) + self.line.ran_out == PEOPLE
        await eventually(self.line.is_over, SETTLED_S - (time.monotonic() - ended_s), "everybody who has paid is out")
        self.seen.purchases, self.seen.confirmed = len(self.sale.purchases), self.sale.paid_count
        self.seen.visits, self.seen.polls = self.line.inside, self.line.polls


@asynccontextmanager
async def under_way(folder: Path, experiment: str, seed: int, **knobs: str) -> AsyncIterator[Stage]:
    """A sale and a line under way for the time of a block, which is for the faults; then the account of it."""
    chance = random.Random(f"{experiment} {seed}")
    seen = Seen(experiment, seed)
    session_ms = round(float(knobs.get("SESSION_S", SESSION_USUAL_S)) * 1000)
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        running_system(folder, **{**KNOBS, **knobs}) as system,
        aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=15)) as session,
    ):
        caller, over = Insisting(session, system.url), asyncio.Event()
        sale = Sale(caller, range(1, BUYERS + 1), range(2, 61))
        line = Line(caller, range(BUYERS + 1, BUYERS + PEOPLE + 1), 1, chance, session_ms)
        stage = Stage(system, session, sale, line, seen, chance)
        async with asyncio.TaskGroup() as group:
            group.create_task(sale.run(over))
            group.create_task(line.run())
            await stage.some_purchases()
            yield stage
            ended_s = time.monotonic()
            over.set()
            await stage.everybody_in()
        await stage.settled(ended_s)
        if stage.at_rest is not None:
            await stage.at_rest()
        seen.tries_again = caller.again_count
    ALL_SEEN.append(seen)
