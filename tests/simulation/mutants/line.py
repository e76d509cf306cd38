"""Mutants of the line and of the gateways' door."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from libs.common.storage.ports import Decision
from libs.common.web.admission import Admission
from services.gateway import domain as gateway_domain
from services.gateway.service.door import Door
from services.queue.domain import line, visits
from services.queue.service.leading import Leading
from services.queue.service.visitors import Visitors
from tests.simulation.patching import Undo, attribute, everywhere


def no_fence() -> Sequence[Undo]:
    original = line.tick

    def tick(found: Any, read: Any, census: Any, now_ms: int, rules: Any) -> Any:
        if found is None:
            return Decision(None)
        return original(found, replace(found), census, now_ms, rules)

    return [everywhere(original, tick)]


def lapse_is_not_stored() -> Sequence[Undo]:
    async def lapse_(self: Leading, sequence: int, now_ms: int) -> bool:
        return True

    return [attribute(Leading, "_lapse", lapse_)]


def sessions_before_offers() -> Sequence[Undo]:
    original = Leading._census

    async def census(self: Any, room: Any, now_ms: int) -> Any:
        open_sessions = await self._line.sessions.count_open(room.id, now_ms - self._line.rules.clock_skew_ms)
        counted, hit_bound = await original(self, room, now_ms)
        return replace(counted, open_sessions=open_sessions), hit_bound

    return [attribute(Leading, "_census", census)]


def returning_by_arrival() -> Sequence[Undo]:
    original = line.register_return

    def register_return(found: Any, sequence: int, lapsed_round: int) -> Any:
        decision = original(found, sequence, lapsed_round)
        if decision.state is None:
            return decision
        entries: list[Any] = [entry for entry in found.returning if entry.sequence != sequence]
        entries.append(decision.result)
        return Decision(decision.result, replace(decision.state, returning=tuple(entries)))

    return [everywhere(original, register_return)]


def newcomers_first() -> Sequence[Undo]:
    def admit(free: int, returning: Any, watermark: int, issued: int, gone: Any) -> Any:
        upto = min(watermark + free, issued)
        return line.Admission(tuple(returning[: free - (upto - watermark)]), upto)

    return [everywhere(line.admit, admit)]


def watermark_follows_the_news() -> Sequence[Undo]:
    return [everywhere(gateway_domain.merged_line, lambda _, news: news)]


def claims_are_not_checked() -> Sequence[Undo]:
    original = Visitors.claim

    async def claim(self: Any, text: str) -> Any:
        class AlwaysTurn:
            def __init__(self, room: Any) -> None:
                self._room = room
                self.watermark = 10**9

            def __getattr__(self, name: str) -> Any:
                return getattr(self._room, name)

        kept = self._line
        fake = _LineOf(kept, AlwaysTurn)
        self._line = fake
        try:
            return await original(self, text)
        finally:
            self._line = kept

    return [attribute(Visitors, "claim", claim)]


class _LineOf:
    def __init__(self, kept: Any, turn: Any) -> None:
        self._kept, self._turn = kept, turn

    async def room(self, id_: int) -> Any:
        return self._turn(await self._kept.room(id_))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kept, name)


def ended_visits_reopen() -> Sequence[Undo]:
    original = visits.come_back

    def come_back(found: Any, ticket: Any, round_: int, until_ms: int, now_ms: int) -> Any:
        if found is not None and found.state == "ended":
            found = replace(found, state="lapsed", round=round_ - 1)
        return original(found, ticket, round_, until_ms, now_ms)

    return [everywhere(original, come_back)]


def the_door_is_open() -> Sequence[Undo]:
    async def admitted(self: Any, token: Any, address: str, operation: Any) -> Any:
        ticket = self.identified(token, address) if operation.ticket != "none" else None
        return None if ticket is None else Admission(ticket.text, ticket.room, ticket.sequence)

    return [attribute(Door, "admitted", admitted)]
