"""Who is there while something is broken: buyers, rivals and people in line, all at once.

Buyers   arrive at a steady rate, whatever became of those before them, and want one seat that nobody else wants: one
         that is refused was sold twice or lost. They are inside by the static ticket.
Rivals   want seats of a schedule that all rivals want at that time; they cancel, walk off, and now and then pay.
Walkers  stand in line for a small room, come in when it is their turn, buy and are gone.

Everybody is given the time to finish once the crowd is told to end.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Set
from dataclasses import dataclass, field
from itertools import count

from loadtest.buying.client import Client, GaveUp, Told

POLL_PAUSE_S = 0.5
OUTCOME_MAX_S = 90.0
"""For a payment whose outcome takes longer: its deadline, and a minute to undo it."""

LINE_MAX_S = 120.0
"""For a place in line: longer than a visit and a claim of those before, with a fault on top."""

AT_ONCE_MAX = 400
RIVAL_SCHEDULES, RIVAL_SEATS = 5, 2
RIVALS_PER_SCHEDULE = 150
"""Visits until the rivals go on to their next schedule; by then many of its seats are sold."""

RETURNING = 1
"""The position of one who comes back after an offer lapsed; it may be higher than the one before."""

DATE = "2026-01-01T00:00:00Z"
Walk = Callable[[], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Visit:
    """What became of one person (monotonic seconds). `why` is empty for one who got what they came for, or who was
    refused as others were quicker; else the last thing they were told."""

    kind: str
    began_s: float
    ended_s: float
    why: str


@dataclass(frozen=True, slots=True)
class Scene:
    """What is on sale and who is there. Users 1 to `users` have points; schedules 1 to `schedules` have `seats` each,
    the last few of them are the rivals'. `taken` are those (schedule, seat) that others have bought before."""

    users: int
    schedules: int
    seats: int
    buyers_per_s: float = 8.0
    rivals: int = 4
    walkers_per_s: float = 3.0
    line_max: int = 30
    taken: Set[tuple[int, int]] = frozenset()


@dataclass
class Crowd:
    """`run` until told to end; then `visits`, `lost_places`, when somebody came in from the line (`let_in_s`, monotonic
    seconds) and the client's records say what happened."""

    client: Client
    scene: Scene
    chance: random.Random
    visits: list[Visit] = field(default_factory=list)
    lost_places: list[str] = field(default_factory=list)
    let_in_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._places: Iterator[tuple[int, int]] = self._own_places()
        self._numbers = count(1)
        self._under_way: Counter[str] = Counter()

    async def run(self, until: asyncio.Event) -> None:
        """Bring people in until the event is set, and let all of them finish."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._arrive(group, "buyer", self.scene.buyers_per_s, self._buy, until))
            group.create_task(self._arrive(group, "walker", self.scene.walkers_per_s, self._walker(until), until))
            for _ in range(self.scene.rivals):
                group.create_task(self._compete(until))

    async def _arrive(
        self, group: asyncio.TaskGroup, kind: str, rate_per_s: float, walk: Walk, until: asyncio.Event
    ) -> None:
        due_s = time.monotonic()
        while not until.is_set() and rate_per_s:
            is_full = kind == "walker" and self._under_way[kind] >= self.scene.line_max
            if not is_full and self._under_way[kind] < AT_ONCE_MAX:
                group.create_task(self._visit(kind, walk))
            due_s += self.chance.expovariate(rate_per_s)
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))

    async def _visit(self, kind: str, walk: Walk) -> None:
        began_s = time.monotonic()
        self._under_way[kind] += 1
        try:
            why = await walk()
        except GaveUp as told:
            why = f"gave up: {told}"
        finally:
            self._under_way[kind] -= 1
        self.visits.append(Visit(kind, began_s, time.monotonic(), why))

    async def _compete(self, until: asyncio.Event) -> None:
        while not until.is_set():
            await self._visit("rival", self._rival)
            await asyncio.sleep(self.chance.uniform(0.1, 0.4))

    async def _buy(self) -> str:
        number = next(self._numbers)
        return await self._own_seat(self._user(number), f"b{number}")

    async def _own_seat(self, user: int, key: str, ticket: str = "") -> str:
        schedule, seat = next(self._places, (0, 0))
        if not schedule:
            return "sold out: give the system more schedules"
        held = await self._hold(user, schedule, [seat], key, ticket)
        if held.status != 201:
            return f"hold refused: {held.told}"
        return await self._pay(user, held.json["id"], key, ticket)

    async def _hold(self, user: int, schedule: int, seats: list[int], key: str, ticket: str = "") -> Told:
        body = {"userId": user, "concertScheduleId": schedule, "seatIds": seats, "dateTime": DATE}
        request = ("POST", "/concert/reservation")
        return await self.client.insist("hold", request, body, ticket=ticket, key=f"{key}-hold")

    async def _pay(self, user: int, reservation: str, key: str, ticket: str = "") -> str:
        body = {"userId": user, "reservationId": reservation, "token": ticket or self.client.token}
        paid = await self.client.insist("pay", ("POST", "/payment"), body, ticket=ticket, key=f"{key}-pay")
        if paid.status == 202:
            return await self._outcome(paid.json["id"], paid.retry_after_s, ticket)
        return "" if paid.status == 200 else f"payment refused: {paid.told}"

    async def _outcome(self, payment: str, pause_s: float, ticket: str) -> str:
        give_up_s = time.monotonic() + OUTCOME_MAX_S
        while time.monotonic() < give_up_s:
            await asyncio.sleep(max(POLL_PAUSE_S, pause_s))
            told = await self.client.call("ask", ("GET", f"/payment/{payment}"), ticket=ticket)
            pause_s = told.retry_after_s
            status = told.json["status"] if told.status == 200 else "PENDING"
            if status != "PENDING":
                return "" if status == "COMPLETED" else f"payment {status}"
        return f"no outcome of a payment in {OUTCOME_MAX_S:g} s"

    async def _rival(self) -> str:
        """Two seats of those that all rivals want. Who comes late, or has too many already, has not failed."""
        number = next(self._numbers)
        user, key = self._user(number), f"r{number}"
        schedule = self.scene.schedules - number // RIVALS_PER_SCHEDULE % RIVAL_SCHEDULES
        first = self.chance.randint(1, self.scene.seats - 1)
        held = await self._hold(user, schedule, [first, first + 1], key)
        if held.status != 201:
            return "" if held.code in ("SEAT_TAKEN", "TOO_MANY_SEATS") else f"hold refused: {held.told}"
        reservation, draw = held.json["id"], self.chance.random()
        if draw < 0.1:
            return ""
        if draw < 0.15:
            return await self._pay(user, reservation, key)
        path = f"/concert/reservation/{reservation}"
        told = await self.client.insist("cancel", ("DELETE", path), key=f"{key}-cancel")
        return "" if told.status == 200 or told.code == "ALREADY_PAID" else f"cancel refused: {told.told}"

    def _walker(self, until: asyncio.Event) -> Walk:
        async def walk() -> str:
            number = next(self._numbers)
            body = {"userId": self._user(number)}
            joined = await self.client.insist("join", ("POST", "/token/create"), body, key=f"w{number}-join")
            if joined.status != 201:
                return f"join refused: {joined.told}"
            ticket = joined.json["uuid"]
            why = await self._wait(ticket, joined.json["position"], until)
            return await self._own_seat(body["userId"], f"w{number}", ticket) if why is None else why

        return walk

    async def _wait(self, ticket: str, position: int, until: asyncio.Event) -> str | None:
        """None when it is their turn. People who still wait when the crowd goes home leave. Raises GaveUp."""
        give_up_s = time.monotonic() + LINE_MAX_S
        while not until.is_set():
            if time.monotonic() > give_up_s:
                raise GaveUp("line", f"not let in within {LINE_MAX_S:g} s")
            told = await self.client.call("poll", ("GET", "/token"), ticket=ticket)
            if told.status == 200:
                place = told.json["waitingQueueWithPositionResult"]
                if place["state"] == "INSIDE":
                    self.let_in_s.append(time.monotonic())
                    return None
                if place["state"] == "ENDED":
                    return self._lost(f"ticket {ticket} at position {position} has ended")
                if place["position"] > max(position, RETURNING):
                    self._lost(f"ticket {ticket} went from position {position} to {place['position']}")
                position = place["position"]
                pause_s = place["pollAfterMs"] / 1000
            elif told.status in (401, 403, 404):
                return self._lost(f"ticket {ticket} at position {position} was told {told.told}")
            else:
                pause_s = max(1.0, told.retry_after_s)
            await _rest(pause_s * self.chance.uniform(0.9, 1.0), until)
        await self.client.call("leave", ("DELETE", "/token"), ticket=ticket)
        return ""

    def _lost(self, sentence: str) -> str:
        self.lost_places.append(sentence)
        return f"lost the place in line: {sentence}"

    def _own_places(self) -> Iterator[tuple[int, int]]:
        for schedule in range(1, self.scene.schedules - RIVAL_SCHEDULES + 1):
            for seat in range(1, self.scene.seats + 1):
                if (schedule, seat) not in self.scene.taken:
                    yield schedule, seat

    def _user(self, number: int) -> int:
        return number % self.scene.users + 1


async def _rest(seconds: float, until: asyncio.Event) -> None:
    """Wait, unless it is time to go home."""
    try:
        async with asyncio.timeout(seconds):
            await until.wait()
    except TimeoutError:
        return
