"""The door: whose request this is, and whether it may come in. Fails closed: who cannot be looked up stays outside.

An identity of the user (a signed token of an identity provider) would be verified here too, beside the ticket.
"""

from collections.abc import Iterable

from libs.common.contract.operation import Operation
from libs.common.errors import SessionExpired, TokenInvalid, TokenMissing
from libs.common.tickets import Ticket, TicketCodec
from libs.common.web.admission import WAITING_TOKEN, Admission
from services.gateway.domain import StillWaiting
from services.gateway.metrics import GatewayMetrics
from services.gateway.service.limits import RateLimit
from services.gateway.service.lines import LineTable
from services.gateway.service.visits import Visits


class Door:
    """Checks tickets: the signature and the table of visits, and no call where the table knows."""

    def __init__(
        self,
        codec: TicketCodec,
        static_tokens: Iterable[str],
        visits: Visits,
        lines: LineTable,
        *,
        limit: RateLimit,
        metrics: GatewayMetrics,
    ) -> None:
        self._codec = codec
        self._static = {token: Admission(token) for token in static_tokens}
        self._visits = visits
        self._lines = lines
        self._limit = limit
        self._checked = metrics.admissions

    def identified(self, token: str | None, address: str) -> Ticket | None:
        """The verified ticket; None for a static token, which is nobody's place in line.

        Counts the request against its ticket, or against its address where there is none of its own.
        Raises TokenMissing, TokenInvalid, RateLimited.
        """
        ticket = None if token is None else self._codec.verify(token)
        self._limit.take(address if ticket is None else ticket.text)
        if ticket is None and token not in self._static:
            self._checked["missing" if token is None else "invalid"].inc()
            if token is None:
                raise TokenMissing(f"Join the line first and send your ticket as {WAITING_TOKEN}.")
            raise TokenInvalid("This is not a ticket of ours; join the line to get one.")
        return ticket

    async def admitted(self, token: str | None, address: str, operation: Operation) -> Admission | None:
        """The admission of a request that may come in; None where the operation asks for no ticket.

        Raises what `identified` raises, StillWaiting, SessionExpired and DependencyDown.
        """
        if operation.ticket == "none":
            self._limit.take(address)
            return None
        ticket = self.identified(token, address)
        if ticket is None:
            self._checked["static"].inc()
            return self._static[str(token)]
        standing = await self._visits.looked_up(ticket)
        if standing is None:
            self._checked["waiting"].inc()
            line = self._lines.line(ticket.room) or await self._lines.find(ticket.room)
            raise StillWaiting(line.ahead_of(ticket.sequence) or 1)
        if not standing.closed:
            self._checked["inside"].inc()
            return Admission(ticket.text, ticket.room, ticket.sequence, until_ms=standing.until_ms)
        if operation.ticket != "inside-or-ended":
            self._checked["refused_ended"].inc()
            raise SessionExpired("This visit is over; join the line again.")
        self._checked["ended"].inc()
        return Admission(ticket.text, ticket.room, ticket.sequence, ended=True)
