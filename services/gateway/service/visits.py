"""Visits: from the table where it knows, else from the queue, which is asked once however many wait for the answer.

A clock may be wrong by more than it should. So a visit that is over by the gateway's own clock, and of whose end the
queue has not told, is asked for before anybody is turned away: who is told so joins again, and has lost a place.
"""

from dataclasses import replace

from libs.common.clock import Clock
from libs.common.contract.queue import SessionView
from libs.common.tickets import Ticket
from services.gateway.domain import Standing
from services.gateway.metrics import GatewayMetrics
from services.gateway.service.queue_client import QueueClient
from services.gateway.service.sessions import SessionTable
from services.gateway.service.single_flight import SingleFlight

ENDED_KEPT_MS = 10 * 60 * 1000
"""How long the end of somebody is remembered who left before coming in; then the queue is asked again."""

BELIEVED_S = 10.0
"""How long the queue's word is believed that a visit goes on which is over by our clock. Its end is told meanwhile."""


class Visits:
    """A standing is None for a ticket that has not come in. What asks the queue raises DependencyDown."""

    def __init__(self, table: SessionTable, queue: QueueClient, clock: Clock, metrics: GatewayMetrics) -> None:
        self._table = table
        self._queue = queue
        self._clock = clock
        self._metrics = metrics
        self._lookups: SingleFlight[Standing | None] = SingleFlight()
        self._claims: SingleFlight[Standing | None] = SingleFlight()

    async def known(self, ticket: Ticket) -> Standing | None:
        """What the table knows, without asking; of a visit that is over by our clock alone, what the queue says."""
        known = self._table.standing(ticket)
        if known is None or known.closed or not self._table.has_passed(known):
            return known
        return await self._lookups.run(ticket.text, lambda: self._look_up(ticket))

    async def looked_up(self, ticket: Ticket) -> Standing | None:
        """What is known of a ticket; the queue is asked at most once a second for one that has not come in."""
        known = await self.known(ticket)
        if known is not None or self._table.is_known_outside(ticket):
            return known
        return await self._lookups.run(ticket.text, lambda: self._look_up(ticket))

    async def claimed(self, ticket: Ticket) -> Standing | None:
        """Come in with a ticket whose turn it is."""
        return await self._claims.run(ticket.text, lambda: self._claim(ticket))

    async def end(self, ticket: Ticket) -> None:
        """Leave, waiting or inside."""
        self._learn(ticket, await self._queue.end(ticket))

    async def _look_up(self, ticket: Ticket) -> Standing | None:
        self._metrics.session_lookups.inc()
        view = await self._queue.session(ticket)
        learnt = self._learn(ticket, view)
        if learnt is None:
            self._table.hear_outside(ticket)
        elif view.state != "open" and self._table.has_passed(learnt):  # a queue whose store lost the visit agrees too
            return replace(learnt, closed=True)
        return learnt

    async def _claim(self, ticket: Ticket) -> Standing | None:
        view = await self._queue.claim(ticket)
        self._metrics.claims[view.state].inc()
        return self._learn(ticket, view)

    def _learn(self, ticket: Ticket, view: SessionView) -> Standing | None:
        """Merge the queue's answer into the table. That somebody is outside is no news against what is known."""
        if view.state not in ("open", "ended"):
            return self._table.standing(ticket)
        until_ms = view.until_ms if view.until_ms is not None else self._clock.now_ms() + ENDED_KEPT_MS
        told = Standing(view.state == "ended", until_ms)
        if not told.closed and self._table.has_passed(told):  # our clock is wrong: not every request asks again
            told = replace(told, believed_s=self._clock.monotonic_s() + BELIEVED_S)
        return self._table.hear(ticket.room, ticket.sequence, told)
