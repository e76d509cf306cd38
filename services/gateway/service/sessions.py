"""The table of visits: who is inside and who has been, as far as events and answers have told."""

from collections import OrderedDict

from libs.common.clock import Clock
from libs.common.tickets import Ticket
from services.gateway.domain import Standing, merged_standing

SWEEP_COUNT = 2_000
"""Entries looked at in one bite of the sweep: about a millisecond."""

NEGATIVE_S = 1.0
"""How long the queue's word that somebody has not come in is believed. Then it may have become wrong."""

NEGATIVES_MAX = 100_000


class SessionTable:
    """Standings by ticket. Losing an entry is harmless: whoever is not in the table is asked for at the queue."""

    def __init__(self, clock: Clock, skew_ms: int, entries_max: int) -> None:
        self._clock = clock
        self._skew_ms = skew_ms
        self._entries_max = entries_max
        self._standings: OrderedDict[int, Standing] = OrderedDict()
        self._negatives: OrderedDict[int, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._standings)

    def standing(self, ticket: Ticket) -> Standing | None:
        return self._standings.get(_key(ticket.room, ticket.sequence))

    def has_passed(self, standing: Standing) -> bool:
        """True when the visit's end has passed, as far as our clock can say and the queue has not just denied it."""
        if self._clock.now_ms() <= standing.until_ms + self._skew_ms:
            return False
        return self._clock.monotonic_s() >= standing.believed_s

    def hear(self, room: int, sequence: int, news: Standing) -> Standing:
        """Merge what was heard of a ticket; what is known of it now."""
        key = _key(room, sequence)
        known = self._standings.get(key)
        if known is None and len(self._standings) >= self._entries_max:
            self._standings.popitem(last=False)
        merged = self._standings[key] = merged_standing(known, news) if known else news
        return merged

    def doubt_open(self) -> None:
        """Events may have been missed: a visit that is open here may have been closed, so each is asked for again."""
        self._standings = OrderedDict((key, standing) for key, standing in self._standings.items() if standing.closed)

    def is_known_outside(self, ticket: Ticket) -> bool:
        """True when the queue has said a moment ago that this ticket has not come in."""
        said_s = self._negatives.get(_key(ticket.room, ticket.sequence))
        return said_s is not None and said_s > self._clock.monotonic_s() - NEGATIVE_S

    def hear_outside(self, ticket: Ticket) -> None:
        """Remember for a moment that a ticket has not come in. Never touches what is known of a visit."""
        self._negatives[_key(ticket.room, ticket.sequence)] = self._clock.monotonic_s()
        self._negatives.move_to_end(_key(ticket.room, ticket.sequence))
        if len(self._negatives) > NEGATIVES_MAX:
            self._negatives.popitem(last=False)

    def sweep(self) -> bool:
        """Drop entries whose end has passed, a bounded bite; True when nothing but such entries was met."""
        oldest_s = self._clock.monotonic_s() - NEGATIVE_S
        while self._negatives and next(iter(self._negatives.values())) <= oldest_s:
            self._negatives.popitem(last=False)
        looked_at = min(SWEEP_COUNT, len(self._standings))
        dropped = 0
        for _ in range(looked_at):
            key, standing = next(iter(self._standings.items()))
            if self.has_passed(standing):
                del self._standings[key]
                dropped += 1
            else:
                # Looked at again once it has come round: entries are not in order of their ends.
                self._standings.move_to_end(key)
        return dropped == SWEEP_COUNT


def _key(room: int, sequence: int) -> int:
    return room << 40 | sequence
