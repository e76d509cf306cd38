"""The tick: one leader per room counts who is inside and lets the next people in.

Every instance runs this for every room. One of them leads: it took the lead in the room document, and each of its ticks
is a compare-and-set there. The others watch the document; when it has not moved for a lease *on their own monotonic
clock*, one of them steps in. A leader that was paused meanwhile loses its next compare-and-set and becomes a watcher.

A tick: read the room → lapse the offers that are over → count the offers that are still unanswered → count the open
sessions → admit. The order is what keeps the room within its capacity; see `domain/line.py`.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from itertools import islice
from math import nan
from typing import TypeVar

from libs.common import log
from services.queue.domain.line import (
    Census,
    Returning,
    Room,
    aged,
    lapses_again,
    lapses_upto,
    resign_lead,
    take_lead,
    tick,
)
from services.queue.domain.visits import awaits, is_over, lapse, lapse_again
from services.queue.service.line import Line

LAPSES_PER_TICK_MAX = 500
"""Offers one tick lets lapse; when there are more, the next tick follows at once."""

WINDOW_COUNT = 500
"""Sequences looked at together when settling offers or moving the floor."""

WINDOWS_PER_TICK_MAX = 20
GONE_COUNT_MAX = 1_000
"""People who left while waiting that one tick moves over."""

WRITES_AT_ONCE_MAX = 100
ARRIVALS_COUNT_MAX = 20_000
"""Lengths of the line this process remembers the time of, one for each look: five hours of arrivals."""

T = TypeVar("T")
R = TypeVar("R")

logger = log.get_logger(__name__)


class Leading:
    """One process's part in leading one room."""

    def __init__(self, line: Line, room_id: int) -> None:
        self._line = line
        self._room_id = room_id
        self._metrics = line.metrics.rooms[room_id]
        self._seen = (-1, -1)
        self._seen_s = nan
        self._arrivals: deque[tuple[int, float]] = deque(maxlen=ARRIVALS_COUNT_MAX)
        self._metrics.head_wait_seconds.set_function(self._head_wait_s)
        self._metrics.tick_age_seconds.set_function(lambda: line.clock.monotonic_s() - self._seen_s)
        self._metrics.wait_estimate_seconds.set(nan)

    async def bite(self) -> bool:
        """Tick if this process leads or may step in, watch otherwise. True when offers are left to lapse."""
        room = await self._line.room(self._room_id)
        self._watch(room)
        if room.leader != self._line.process:
            self._metrics.leader.set(0)
            waited_ms = (self._line.clock.monotonic_s() - self._seen_s) * 1000
            if room.leader is not None and waited_ms < self._line.rules.leader_lease_ms:
                return False
            led = await self._step_in(room)
            if led is None:
                return False
            room = led
        return await self._tick(room)

    async def resign(self) -> None:
        """Let somebody else lead at once: for a process that stops."""
        process = self._line.process
        await self._line.rooms.update(self._room_id, lambda found: resign_lead(found, process))

    async def _step_in(self, seen: Room) -> Room | None:
        process = self._line.process
        led = await self._line.rooms.update(self._room_id, lambda found: take_lead(found, process, seen))
        if led is not None:
            logger.info("leads the room", room=self._room_id, fence=led.fence, before=seen.leader)
        return led

    async def _tick(self, read: Room) -> bool:
        now_ms = self._line.clock.now_ms()
        rules = self._line.rules
        census, hit_bound = await self._census(aged(read, now_ms, rules), now_ms)
        ticked = await self._line.rooms.update(self._room_id, lambda found: tick(found, read, census, now_ms, rules))
        if ticked is None:
            logger.info("no longer leads the room", room=self._room_id, fence=read.fence)
            self._metrics.leader.set(0)
            return False
        self._metrics.leader.set(1)
        self._metrics.admitted.inc(ticked.admitted)
        self._watch(ticked.room)
        return hit_bound

    async def _census(self, room: Room, now_ms: int) -> tuple[Census, bool]:
        """Who is where, in the order that counts one who moves meanwhile twice rather than not at all."""
        settled, hit_bound = await self._settle(room, now_ms)
        present = await self._line.sessions.count_between(room.id, settled, room.watermark)
        answered, awaited_count = await self._answers(room, now_ms)
        gone = await self._line.sessions.between(room.id, room.watermark, room.issued, GONE_COUNT_MAX)
        floor = await self._floor(room, settled, now_ms)
        census = Census(
            settled=settled,
            floor=floor,
            unclaimed=room.watermark - settled - present + awaited_count,
            open_sessions=await self._line.sessions.count_open(room.id, now_ms - self._line.rules.clock_skew_ms),
            answered=answered,
            gone=tuple(session.sequence for session in gone),
        )
        return census, hit_bound

    async def _settle(self, room: Room, now_ms: int) -> tuple[int, bool]:
        """Give every sequence of the offers that are over its session, lapsed where nobody came. How far that got, and
        whether it hit its bound."""
        settled, due = room.settled, lapses_upto(room, now_ms, self._line.rules)
        lapsed_count = 0
        for _ in range(WINDOWS_PER_TICK_MAX):
            if await self._line.sessions.count_between(room.id, settled, due) == due - settled:
                return due, False
            upto = min(due, settled + WINDOW_COUNT)
            present = {
                each.sequence for each in await self._line.sessions.between(room.id, settled, upto, WINDOW_COUNT)
            }
            missing = [sequence for sequence in range(settled + 1, upto + 1) if sequence not in present]
            lapsed_count += sum(await _in_chunks(missing, lambda sequence: self._lapse(sequence, now_ms)))
            settled = upto
            if lapsed_count >= LAPSES_PER_TICK_MAX:
                break
        return settled, settled < due

    async def _lapse(self, sequence: int, now_ms: int) -> bool:
        # A claim that comes first holds the place: the insert decides, and either way the offer is answered.
        lapsed = await self._line.sessions.insert(lapse(self._room_id, sequence, now_ms), [])
        self._metrics.lapsed.inc(int(lapsed))
        return lapsed

    async def _answers(self, room: Room, now_ms: int) -> tuple[frozenset[tuple[int, int]], int]:
        """Which offers to returning people are answered, lapsing those that are over; and how many are not."""
        offered = [entry for entry in room.returning if entry.offered_ms is not None]
        found = await self._line.sessions.of(room.id, [entry.sequence for entry in offered])
        sessions = {session.sequence: session for session in found}
        awaited = [entry for entry in offered if awaits(sessions.get(entry.sequence), entry.round)]
        over = [entry for entry in awaited if lapses_again(entry, now_ms, self._line.rules)][:LAPSES_PER_TICK_MAX]
        await _in_chunks(over, lambda entry: self._lapse_again(entry, now_ms))
        still_awaited = set(awaited) - set(over)
        answered = frozenset((entry.sequence, entry.round) for entry in offered if entry not in still_awaited)
        return answered, len(still_awaited)

    async def _lapse_again(self, entry: Returning, now_ms: int) -> None:
        lapsed = await self._line.sessions.update(
            self._room_id, entry.sequence, lambda found: lapse_again(found, entry.round, now_ms)
        )
        self._metrics.lapsed.inc(int(lapsed))

    async def _floor(self, room: Room, settled: int, now_ms: int) -> int:
        """The sequence up to which every visit has been over for long enough to be forgotten."""
        since_ms = now_ms - self._line.rules.session_keep_ms
        first = await self._line.sessions.get(room.id, room.floor + 1) if room.floor < settled else None
        if first is None or not is_over(first, since_ms):
            return room.floor
        floor = room.floor
        upto = min(settled, floor + WINDOW_COUNT)
        for session in await self._line.sessions.between(room.id, floor, upto, WINDOW_COUNT):
            if session.sequence != floor + 1 or not is_over(session, since_ms):
                break
            floor = session.sequence
        return floor

    def _watch(self, room: Room) -> None:
        """Note that the room has moved, and show how it stands."""
        if (room.fence, room.tick) != self._seen:
            self._seen, self._seen_s = (room.fence, room.tick), self._line.clock.monotonic_s()
        if not self._arrivals or room.issued > self._arrivals[-1][0]:
            self._arrivals.append((room.issued, self._line.clock.monotonic_s()))
        while self._arrivals and self._arrivals[0][0] <= room.watermark:
            self._arrivals.popleft()
        waiting_count = room.issued - room.watermark
        self._metrics.waiting.set(waiting_count)
        self._metrics.open.set(room.open_sessions)
        self._metrics.unclaimed.set(room.unclaimed)
        self._metrics.returning.set(len(room.returning))
        self._metrics.capacity.set(room.capacity)
        self._metrics.fence.set(room.fence)
        self._metrics.held_back.set(room.holds(self._line.clock.now_ms()))
        self._metrics.wait_estimate_seconds.set(waiting_count / room.rate if room.rate > 0 else nan)

    def _head_wait_s(self) -> float:
        return self._line.clock.monotonic_s() - self._arrivals[0][1] if self._arrivals else 0.0


async def _in_chunks(items: Iterable[T], act: Callable[[T], Awaitable[R]]) -> list[R]:
    """Do something with every item, a bounded number at a time: writes that wait together share a disk flush."""
    results: list[R] = []
    rest = iter(items)
    while chunk := list(islice(rest, WRITES_AT_ONCE_MAX)):
        results += await asyncio.gather(*(act(item) for item in chunk))
    return results
