"""What people ask of the line: a place, the way in, the way out."""

from itertools import count

from libs.common.errors import Problem, TokenInvalid
from libs.common.ids import derived_id
from libs.common.tickets import Ticket, TicketCodec
from libs.common.web.idempotency import IdempotencyKey
from services.queue.domain.joins import JoinKey, claim_key, keep_place, release_key
from services.queue.domain.line import Room, RoomNotFound, register_return, take_place
from services.queue.domain.visits import EndReason, Session, Standing, come_back, come_in, end, opened, standing
from services.queue.service.line import Line


class Visitors:
    """Joins, claims and leaves. Every method may be repeated and then says what the first one said."""

    def __init__(self, line: Line, codec: TicketCodec) -> None:
        self._line = line
        self._codec = codec
        self._joins_count = count(1)

    async def join(self, room: int, user: int | None, key: IdempotencyKey) -> tuple[Ticket, bool]:
        """Give out the next place, once per key of the client's own; the ticket, and whether it was given before.

        Raises RoomNotFound, RoomClosed, RequestInProgress, IdempotencyMismatch.
        """
        if room not in self._line.metrics.rooms:
            raise RoomNotFound(f"Room {room} does not exist; leave `room` out for the usual one.")
        if key.made:
            sequence, replayed = await self._take_place(room), False
        else:
            sequence, replayed = await self._take_place_once(room, user or 0, key)
        return Ticket(self._codec.sign(room, sequence), room, sequence), replayed

    async def claim(self, text: str) -> Standing:
        """Come in if it is this ticket's turn; where the ticket stands after that."""
        ticket = self._verified(text)
        room = await self._line.room(ticket.room)
        if ticket.sequence <= room.floor:
            return Standing(ticket, "ended")
        if ticket.sequence > room.watermark:  # waiting, unless it has left
            return await self._read(ticket, room)
        now_ms = self._line.clock.now_ms()
        session = come_in(ticket, now_ms + self._line.rules.session_ms, now_ms)
        if not await self._line.sessions.insert(session, [opened(session)]):
            return await self._answered_before(ticket, room)
        metrics = self._line.metrics.rooms[ticket.room]
        metrics.opened.inc()
        offered_ms = room.offered_ms(ticket.sequence)
        if offered_ms is not None:
            metrics.claim_wait_seconds.observe((now_ms - offered_ms) / 1000)
        return self._standing(ticket, session, room)

    async def read(self, text: str) -> Standing:
        """Where a ticket stands."""
        ticket = self._verified(text)
        return await self._read(ticket, await self._line.room(ticket.room))

    async def leave(self, text: str) -> Standing:
        """Give up the place or end the visit; where the ticket stands after that."""
        ticket = self._verified(text)
        room = await self._line.room(ticket.room)
        if ticket.sequence > room.issued:  # a store brought back from an older copy: this place is still to be given
            return Standing(ticket, "none")
        return await self._end(ticket, room, "left")

    async def paid(self, ticket: Ticket) -> None:
        """End the visit of a ticket that has bought. Tickets of rooms that are no longer kept are past caring."""
        if ticket.room not in self._line.metrics.rooms:
            return
        await self._end(ticket, await self._line.room(ticket.room), "paid")

    async def _take_place(self, room: int) -> int:
        sequence = await self._line.rooms.update(room, take_place)
        self._line.metrics.rooms[room].joins.inc()
        return sequence

    async def _take_place_once(self, room: int, user: int, key: IdempotencyKey) -> tuple[int, bool]:
        """The steps of a join that may be sent twice; `domain/joins.py` says why in this order."""
        id_, now_ms = derived_id("j", user, "join", key.value), self._line.clock.now_ms()
        claimed = JoinKey(key.body_digest, f"{self._line.process}/{next(self._joins_count)}", now_ms)
        known = await self._line.joins.update(
            id_, lambda found: claim_key(found, claimed.digest, claimed.owner, now_ms)
        )
        if known is not None:
            return known, True
        try:
            sequence = await self._take_place(room)
        except Problem:
            await self._line.joins.update(id_, lambda found: release_key(found, claimed.owner))
            raise
        kept = await self._line.joins.update(id_, lambda found: keep_place(found, claimed, sequence))
        return kept, kept != sequence

    async def _answered_before(self, ticket: Ticket, room: Room) -> Standing:
        """The claim of a ticket that has a session: it came in, left, or returns after its offer lapsed."""
        session = await self._line.sessions.get(ticket.room, ticket.sequence)
        if session is None:  # purged since the insert met it
            return Standing(ticket, "ended")
        if session.state != "lapsed":
            return self._standing(ticket, session, room)
        entry = room.return_of(ticket.sequence)
        if entry is None or entry.round <= session.round:
            lapsed_round = session.round
            entry = await self._line.rooms.update(
                ticket.room, lambda found: register_return(found, ticket.sequence, lapsed_round)
            )
        if entry is None:
            return Standing(ticket, "ended")
        if entry.offered_ms is None:
            return Standing(ticket, "returning")
        round_, now_ms = entry.round, self._line.clock.now_ms()
        until_ms = now_ms + self._line.rules.session_ms
        after, is_new = await self._line.sessions.update(
            ticket.room, ticket.sequence, lambda found: come_back(found, ticket, round_, until_ms, now_ms)
        )
        if is_new:
            self._line.metrics.rooms[ticket.room].opened.inc()
        return self._standing(ticket, after, room)

    async def _end(self, ticket: Ticket, room: Room, reason: EndReason) -> Standing:
        if ticket.sequence <= room.floor:
            return Standing(ticket, "ended")
        now_ms = self._line.clock.now_ms()
        until_ms = now_ms + self._line.rules.session_ms
        session, is_new = await self._line.sessions.update(
            ticket.room, ticket.sequence, lambda found: end(found, ticket, reason, until_ms, now_ms)
        )
        if is_new:
            self._line.metrics.rooms[ticket.room].ended[reason].inc()
        return self._standing(ticket, session, room)

    async def _read(self, ticket: Ticket, room: Room) -> Standing:
        session = await self._line.sessions.get(ticket.room, ticket.sequence)
        return self._standing(ticket, session, room)

    def _standing(self, ticket: Ticket, session: Session | None, room: Room) -> Standing:
        return standing(ticket, session, room, self._line.clock.now_ms() - self._line.rules.clock_skew_ms)

    def _verified(self, text: str) -> Ticket:
        ticket = self._codec.verify(text)
        if ticket is None:
            raise TokenInvalid("This ticket is not one of ours; join the line for a new one.")
        return ticket
