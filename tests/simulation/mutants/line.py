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
    """At the gateway, which asks for nobody whose turn it is not, and at the queue, which believes no gateway."""

    async def claim(self: Visitors, text: str) -> Any:
        ticket = self._verified(text)
        room = await self._line.room(ticket.room)
        now_ms = self._line.clock.now_ms()
        session = visits.come_in(ticket, now_ms + self._line.rules.session_ms, now_ms)
        if not await self._line.sessions.insert(session, [visits.opened(session)]):
            return await self._answered_before(ticket, room)
        return self._standing(ticket, session, room)

    return [
        attribute(gateway_domain.Line, "ahead_of", lambda *_: 0),
        attribute(Visitors, "claim", claim),
    ]


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
