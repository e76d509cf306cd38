"""A visit: the session document of one ticket, from the moment its offer is answered.

    (no document) ── claim ──▶ open ── paid, left, expired ──▶ ended
          │                     ▲                                ▲
          ├── lapse ─▶ lapsed ──┴─ claim of a later round        │
          └── leave ─────┴──────────── leave ────────────────────┘

Nothing leads out of `ended`, so a late claim never reopens a visit. A document goes away only at or under the room's
floor, and every ticket down there is ended.
"""

from dataclasses import dataclass, replace
from typing import Literal

from libs.common.events.queue import SessionClosed, SessionOpened
from libs.common.storage.ports import Decision
from libs.common.tickets import Ticket
from services.queue.domain.line import Room

VisitState = Literal["open", "lapsed", "ended"]
EndReason = Literal["paid", "left", "expired"]


@dataclass(frozen=True, slots=True)
class Session:
    """The visit of one ticket. `round` is the offer it last answered or let lapse, 0 when it left before any;
    `until_ms` is None as long as it never came in; `at_ms` is the time of the last change."""

    room: int
    sequence: int
    ticket: str
    state: VisitState
    round: int
    until_ms: int | None
    reason: EndReason | None
    at_ms: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What a ticket's holder is told. `none`: waiting, not let in yet."""

    ticket: Ticket
    state: Literal["none", "open", "returning", "ended"]
    until_ms: int | None = None
    reason: EndReason | None = None


def come_in(ticket: Ticket, until_ms: int, now_ms: int) -> Session:
    """The session of one who answers the first offer; storing it fails if the offer was answered otherwise."""
    return Session(ticket.room, ticket.sequence, ticket.text, "open", 1, until_ms, None, now_ms)


def opened(session: Session) -> SessionOpened:
    """The event that tells of an open session."""
    return SessionOpened(
        session.ticket, session.room, session.sequence, until_ms=session.until_ms or session.at_ms, at_ms=session.at_ms
    )


def come_back(
    found: Session | None, ticket: Ticket, round_: int, until_ms: int, now_ms: int
) -> Decision[Session, tuple[Session | None, bool]]:
    """Open a lapsed session on offer `round_`, unless that has lapsed as well; the session as it then is, and whether
    this call opened it."""
    if found is None or found.state != "lapsed" or found.round != round_ - 1:
        return Decision((found, False))
    session = replace(found, ticket=ticket.text, state="open", round=round_, until_ms=until_ms, at_ms=now_ms)
    return Decision((session, True), session, [opened(session)])


def lapse(room: int, sequence: int, now_ms: int) -> Session:
    """The session of one who did not answer the first offer in time."""
    return Session(room, sequence, "", "lapsed", 1, None, None, now_ms)


def lapse_again(found: Session | None, round_: int, now_ms: int) -> Decision[Session, bool]:
    """Let offer `round_` to a returning one lapse; False when it was answered, or has lapsed already."""
    if not awaits(found, round_) or found is None:
        return Decision(False)
    return Decision(True, replace(found, round=round_, at_ms=now_ms))


def awaits(found: Session | None, round_: int) -> bool:
    """True while offer `round_` to a returning one is neither answered nor lapsed."""
    return found is not None and found.state == "lapsed" and found.round < round_


def end(
    found: Session | None, ticket: Ticket, reason: EndReason, until_ms: int, now_ms: int
) -> Decision[Session, tuple[Session, bool]]:
    """End a visit, or the wait for one; the session, and whether this call ended it. `until_ms` is when the gateways
    may forget one that never came in."""
    if found is not None and found.state == "ended":
        return Decision((found, False))
    waited = Session(ticket.room, ticket.sequence, ticket.text, "ended", 0, until_ms, reason, now_ms)
    session = waited if found is None else _ended(replace(found, ticket=ticket.text), reason, until_ms, now_ms)
    return Decision((session, True), session, [_closed(session)])


def expire(found: Session | None, until_latest_ms: int, now_ms: int) -> Decision[Session, bool]:
    """End a visit that was to end at `until_latest_ms` or before; whether this call did."""
    if found is None or found.state != "open" or found.until_ms is None or found.until_ms > until_latest_ms:
        return Decision(False)
    session = _ended(found, "expired", found.until_ms, now_ms)
    return Decision(True, session, [_closed(session)])


def is_over(session: Session, since_ms: int) -> bool:
    """True for a visit that ended, or never took place, at `since_ms` or before."""
    return session.state != "open" and session.at_ms <= since_ms


def standing(ticket: Ticket, found: Session | None, room: Room, latest_ms: int) -> Standing:
    """What is known of a ticket. `latest_ms` is the end of visits that are over by every clock."""
    if ticket.sequence <= room.floor:
        return Standing(ticket, "ended")
    if found is None:
        return Standing(ticket, "none")
    if found.state == "lapsed":
        return Standing(ticket, "returning")
    if found.state == "open" and (found.until_ms or 0) <= latest_ms:  # the sweeper has not been there yet
        return Standing(ticket, "ended", found.until_ms, "expired")
    return Standing(ticket, found.state, found.until_ms, found.reason)


def _ended(session: Session, reason: EndReason, until_ms: int, now_ms: int) -> Session:
    until = session.until_ms if session.until_ms is not None else until_ms
    return replace(session, state="ended", until_ms=until, reason=reason, at_ms=now_ms)


def _closed(session: Session) -> SessionClosed:
    return SessionClosed(
        session.ticket,
        session.room,
        session.sequence,
        reason=session.reason or "expired",
        until_ms=session.until_ms or session.at_ms,
        at_ms=session.at_ms,
    )
