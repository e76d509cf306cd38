"""Which user each ticket holds for: one small document per ticket, remembered in memory.

A binding never changes, so remembering it is safe. That a ticket has bought is not in the document: it follows from its
reservations, and every instance hears of it (`ReservationConfirmed`), so a remembered holder is kept up to date, and
one that is not remembered is read with one search.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable

from libs.common.metrics import CommonMetrics
from libs.common.storage.folding import Documents, OnStored
from libs.common.storage.ports import AlreadyExists, Body, Collection, Store, Where
from services.reservation.ports import Holder

TICKETS: Collection[Body] = Collection(
    "tickets", encode=lambda body: body, decode=lambda body: body, indexes=(("made_ms",),)
)

REMEMBERED_COUNT_MAX = 100_000


class TicketDocuments:
    """`services.reservation.ports.Tickets`; `has_confirmed` asks the store whether a ticket has bought."""

    def __init__(
        self,
        store: Store,
        metrics: CommonMetrics,
        on_stored: OnStored,
        has_confirmed: Callable[[str], Awaitable[bool]],
    ) -> None:
        self._tickets = Documents(store, TICKETS, "reservation", metrics, on_stored)
        self._has_confirmed = has_confirmed
        self._remembered: OrderedDict[str, Holder] = OrderedDict()

    async def holder(self, ticket: str) -> Holder | None:
        remembered = self._remembered.get(ticket)
        if remembered is not None:
            self._remembered.move_to_end(ticket)
            return remembered
        found = await self._tickets.get(ticket)
        return None if found is None else await self._read(ticket, found["user"])

    async def bind(self, ticket: str, user: int, now_ms: int) -> Holder:
        try:
            await self._tickets.insert(ticket, {"user": user, "made_ms": now_ms})
        except AlreadyExists:
            return await self.holder(ticket) or Holder(user, has_bought=False)
        return self._remember(ticket, Holder(user, has_bought=False))

    def bought(self, ticket: str, user: int) -> None:
        self._remember(ticket, Holder(user, has_bought=True))

    def forget(self) -> None:
        self._remembered.clear()

    async def purge(self, made_before_ms: int, limit: int) -> int:
        return await self._tickets.purge(Where("made_ms", "<", made_before_ms), limit=limit)

    async def _read(self, ticket: str, user: int) -> Holder:
        return self._remember(ticket, Holder(user, await self._has_confirmed(ticket)))

    def _remember(self, ticket: str, holder: Holder) -> Holder:
        """Keep what is known; a purchase that became known meanwhile is not unlearnt."""
        known = self._remembered.get(ticket)
        kept = known if known is not None and known.has_bought else holder
        self._remembered[ticket] = kept
        self._remembered.move_to_end(ticket)
        if len(self._remembered) > REMEMBERED_COUNT_MAX:
            self._remembered.popitem(last=False)
        return kept
