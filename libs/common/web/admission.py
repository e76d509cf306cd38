"""What the gateway found out about a ticket, passed on inside the house as headers.

The gateway verifies tickets and never forwards a client's own headers of these names; the services behind it believe
them. A static ticket (load tests only) has no room and no sequence.
"""

from collections.abc import Mapping
from dataclasses import dataclass

WAITING_TOKEN = "X-Waiting-Token"  # noqa: S105 (the name of a header)
"""What clients send: their ticket, the `uuid` that joining the line answers with."""

TICKET, ROOM, SEQUENCE = "X-Ticket", "X-Ticket-Room", "X-Ticket-Sequence"
UNTIL, ENDED = "X-Ticket-Until", "X-Ticket-Ended"


@dataclass(frozen=True, slots=True)
class Admission:
    """A verified ticket and where it stands: inside until `until_ms` (epoch ms), or `ended` (its visit is over and it
    may only look back)."""

    ticket: str
    room: int | None = None
    sequence: int | None = None
    ended: bool = False
    until_ms: int | None = None

    @property
    def is_static(self) -> bool:
        return self.room is None

    def may_enter(self, room: int) -> bool:
        """True when the ticket is good for a concert of `room`."""
        return self.room is None or self.room == room

    def is_over(self, now_ms: int, skew_ms: int) -> bool:
        """True when the visit is over by now: a request may have waited for a process that stood still. The gateway let
        it in by its clock up to `skew_ms` late, and ours may be as far ahead of that."""
        return self.ended or (self.until_ms is not None and now_ms > self.until_ms + 2 * skew_ms)

    def headers(self) -> dict[str, str]:
        """The headers that carry this to a service."""
        carried = {TICKET: self.ticket}
        if self.room is not None and self.sequence is not None:
            carried |= {ROOM: str(self.room), SEQUENCE: str(self.sequence)}
        if self.until_ms is not None:
            carried[UNTIL] = str(self.until_ms)
        return carried | ({ENDED: "1"} if self.ended else {})


def admission_from(headers: Mapping[str, str]) -> Admission | None:
    """The admission a request carries; None for one that brought no ticket."""
    ticket = headers.get(TICKET)
    if ticket is None:
        return None
    room, sequence, until = headers.get(ROOM), headers.get(SEQUENCE), headers.get(UNTIL)
    return Admission(
        ticket,
        room=int(room) if room else None,
        sequence=int(sequence) if sequence else None,
        ended=ENDED in headers,
        until_ms=int(until) if until else None,
    )
