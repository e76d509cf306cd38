"""The line as people in it see it: join, ask, leave. Asking costs the queue nothing until it is one's turn."""

from dataclasses import dataclass

from libs.common.contract.operation import Priority
from libs.common.contract.queue import JOIN, JoinRequest
from libs.common.errors import Problem
from libs.common.tickets import Ticket
from libs.common.web.idempotency import IdempotencyKey
from services.gateway.domain import Line, Pace, Place, ended_place, front_place, inside_place, waiting_place
from services.gateway.service.door import Door
from services.gateway.service.gates import Gates
from services.gateway.service.guarded import Chance
from services.gateway.service.limits import RateLimit, Slots
from services.gateway.service.lines import LineTable
from services.gateway.service.queue_client import QueueClient
from services.gateway.service.visits import Visits

STATIC_ROOM = 1
"""The room named to a static token, which is inside in every room."""


@dataclass(frozen=True, slots=True)
class Told:
    """Where a ticket stands, as its owner is told."""

    ticket: str
    room: int
    place: Place


class Waiting:
    """The token routes. A position is always computed from the table of lines, a visit always from that of visits."""

    def __init__(
        self,
        door: Door,
        visits: Visits,
        lines: LineTable,
        queue: QueueClient,
        *,
        slots: Slots,
        gates: Gates,
        join_limit: RateLimit,
        pace: Pace,
        chance: Chance,
    ) -> None:
        self._door = door
        self._visits = visits
        self._lines = lines
        self._queue = queue
        self._slot = slots.of(Priority.POLL)
        self._gate = gates.of(JOIN.room, JOIN.priority)
        self._join_limit = join_limit
        self._pace = pace
        self._chance = chance

    async def join(self, request: JoinRequest, key: IdempotencyKey, address: str) -> Told:
        """Take a place in line. Raises RoomNotFound, RoomClosed, RateLimited, Overloaded, DependencyDown."""
        self._join_limit.take(address)
        with self._slot:
            joined = await self._gate.let_through(lambda: self._queue.issue(request, key))
            ticket = Ticket(joined.ticket, joined.room, joined.sequence)
            try:
                place = await self._place(ticket)
            except Problem:
                if not key.made:  # the key finds this place again, and its owner may be inside already
                    raise
                # The place is given and durable; what failed is only to say more about it, and polls will.
                line = self._lines.line(ticket.room) or Line(ticket.room, 0, 0, 0, 0.0, "open")
                place = waiting_place(line, ticket.sequence, self._pace, self._chance())
            return Told(ticket.text, ticket.room, place)

    async def poll(self, token: str | None, address: str) -> Told:
        """Where a ticket stands; the call that first finds its turn has come comes in.

        Raises TokenMissing, TokenInvalid, RoomNotFound, RateLimited, Overloaded, DependencyDown.
        """
        with self._slot:
            ticket = self._door.identified(token, address)
            if ticket is None:
                return Told(str(token), STATIC_ROOM, inside_place(self._pace))
            return Told(ticket.text, ticket.room, await self._place(ticket))

    async def leave(self, token: str | None, address: str) -> None:
        """Leave, waiting or inside; a static token stays. Raises what `poll` raises."""
        with self._slot:
            ticket = self._door.identified(token, address)
            if ticket is not None:
                await self._visits.end(ticket)

    async def _place(self, ticket: Ticket) -> Place:
        visit = await self._visits.known(ticket)
        if visit is None:
            line = self._lines.line(ticket.room) or await self._lines.find(ticket.room)
            if line.ahead_of(ticket.sequence):
                return waiting_place(line, ticket.sequence, self._pace, self._chance())
            visit = await self._visits.claimed(ticket)
            if visit is None:
                return front_place(self._pace, self._chance())
        return ended_place(self._pace) if visit.closed else inside_place(self._pace, visit.until_ms)
