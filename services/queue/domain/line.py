"""The line: one document per room holds all of it, and nothing is stored per waiting person.

A place is a sequence number, given out in order of arrival. Everyone up to the watermark has been let in: offered a
visit, which the ticket then claims.

    0 ······ floor ········ settled ············ watermark ················ issued
      purged        every sequence    offered, some        waiting
                    has a session     not claimed yet

The one invariant: people inside and offers nobody has answered are together never more than the capacity (as long as
nobody lowers it), people are let in in order of arrival, and the watermark never moves back.

It rests on three things. An offer is answered by whoever first inserts the session under its sequence: the claim, or
the tick that lapses it, or the one who leaves. The leader counts the unanswered offers *before* it counts the open
sessions, so that one who comes in meanwhile is counted twice rather than not at all. And it admits in a compare-and-set
on (leader, fence, tick), so that what it counted is still all there is.

Those whose offer lapsed and who came after all are `returning`: they get the next free places, in the order of their
sequences. Each offer to one sequence is a round, counted from 1; the session remembers how many have lapsed, so an
answer to an old round finds out that it is late.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp
from typing import Literal

from libs.common.errors import Overloaded, Problem
from libs.common.events.queue import LineMoved
from libs.common.storage.ports import Decision

RoomState = Literal["open", "paused", "closed"]

OFFERS_COUNT_MAX = 1_000
"""Offers a room remembers; one more joins the last one, which then lapses a little later than it would have."""

RETURNING_COUNT_MAX = 10_000
"""People a room remembers as returning; more are told to come back."""

RETURNING_OFFERED_MAX = 1_000
"""Offers to returning people that may be unanswered at a time: each tick looks every one of them up."""

RATE_WINDOW_S = 30.0
"""How far back "lately" goes in the rate of admission: the time constant of a moving average."""


class RoomNotFound(Problem):
    status, code, title = 404, "ROOM_NOT_FOUND", "There is no such waiting room"


class RoomClosed(Problem):
    status, code, title = 409, "ROOM_CLOSED", "This line takes no more people"


@dataclass(frozen=True, slots=True)
class Offer:
    """One tick let everybody in up to `upto`, from the offer before. `at_ms` is what its age is counted from."""

    upto: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Returning:
    """One who came after offer `round - 1` had lapsed. `offered_ms` is None until the next offer is made."""

    sequence: int
    round: int
    offered_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Room:
    """A waiting line. Between `settled` and `watermark` lie the `offers`, oldest first; see the module for the picture.

    `open_sessions` and `unclaimed` are what the leader counted in its last tick, at `ticked_ms`; `rate` is sequences
    per second the watermark moved, lately.
    """

    id: int
    capacity: int
    state: RoomState = "open"
    opens_at_ms: int | None = None
    issued: int = 0
    watermark: int = 0
    settled: int = 0
    floor: int = 0
    offers: tuple[Offer, ...] = ()
    returning: tuple[Returning, ...] = ()
    leader: str | None = None
    fence: int = 0
    tick: int = 0
    ticked_ms: int = 0
    rate: float = 0.0
    open_sessions: int = 0
    unclaimed: int = 0

    def holds(self, now_ms: int) -> bool:
        """True while nobody is let in: paused, or not open yet."""
        return self.state == "paused" or (self.opens_at_ms is not None and now_ms < self.opens_at_ms)

    def return_of(self, sequence: int) -> Returning | None:
        """The entry of one who is returning."""
        return next((entry for entry in self.returning if entry.sequence == sequence), None)

    def offered_ms(self, sequence: int) -> int | None:
        """When the first offer to a sequence was made; None for one that has not been, or is long settled."""
        if not self.settled < sequence <= self.watermark:
            return None
        return next((offer.at_ms for offer in self.offers if sequence <= offer.upto), None)


@dataclass(frozen=True, slots=True)
class LineRules:
    """The times of the line, in milliseconds: see `settings.py`."""

    claim_window_ms: int
    session_ms: int
    session_keep_ms: int
    leader_lease_ms: int
    clock_skew_ms: int


@dataclass(frozen=True, slots=True)
class RoomChange:
    """What an operator asks for; None leaves a value, `opens_at_ms` counts only when `moves_opening`."""

    state: RoomState | None = None
    capacity: int | None = None
    moves_opening: bool = False
    opens_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Census:
    """What a leader found before it admits.

    `answered` are offers (sequence, round) to returning people that need no room any more, or hold a session; `gone`
    are sequences beyond the watermark that left while waiting, ascending.
    """

    settled: int
    floor: int
    unclaimed: int
    open_sessions: int
    answered: frozenset[tuple[int, int]] = frozenset()
    gone: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Admission:
    """Whom to let in: returning people by sequence, and everybody in line up to `watermark`."""

    returning: tuple[int, ...]
    watermark: int


@dataclass(frozen=True, slots=True)
class Ticked:
    """The room after a tick, and how many people the tick let in."""

    room: Room
    admitted: int


def admit(free: int, returning: Sequence[int], watermark: int, issued: int, gone: Sequence[int]) -> Admission:
    """The policy of admission: `free` places go to returning people first, then down the line.

    `gone` have left: the line moves over them without using a place. All sequences ascend.
    """
    first = tuple(returning[:free])
    upto = watermark + free - len(first)
    for sequence in gone:
        if sequence > upto:
            break
        upto += 1
    return Admission(first, min(upto, issued))


def take_place(found: Room | None) -> Decision[Room, int]:
    """The next sequence. A reply that is lost costs one place: it lapses like that of anyone who does not come."""
    room = _existing(found)
    if room.state == "closed":
        raise RoomClosed(f"Room {room.id} is closed; nobody can join it any more.")
    return Decision(room.issued + 1, replace(room, issued=room.issued + 1))


def register_return(found: Room | None, sequence: int, lapsed_round: int) -> Decision[Room, Returning | None]:
    """Remember one whose offer `lapsed_round` has lapsed; the entry, or None when the ticket has ended for good.

    Raises Overloaded when the room remembers too many.
    """
    room = _existing(found)
    entry = room.return_of(sequence)
    if entry is not None and entry.round > lapsed_round:
        return Decision(entry)
    if sequence <= room.floor:
        return Decision(None)
    others = tuple(other for other in room.returning if other.sequence != sequence)
    if len(others) >= RETURNING_COUNT_MAX:
        raise Overloaded("Too many people are coming back at once; ask again.", retry_after_s=5)
    entry = Returning(sequence, lapsed_round + 1)
    return Decision(entry, replace(room, returning=tuple(sorted((*others, entry), key=lambda each: each.sequence))))


def change_room(found: Room | None, change: RoomChange) -> Decision[Room, tuple[Room, Room]]:
    """Apply an operator's change; the room before and after."""
    room = _existing(found)
    changed = replace(
        room,
        state=change.state or room.state,
        capacity=room.capacity if change.capacity is None else change.capacity,
        opens_at_ms=change.opens_at_ms if change.moves_opening else room.opens_at_ms,
    )
    return Decision((room, changed), changed)


def take_lead(found: Room | None, leader: str, seen: Room) -> Decision[Room, Room | None]:
    """Become the leader unless the room has moved since it was `seen`; the room as led, or None."""
    room = _existing(found)
    if room.leader == leader:  # our own earlier success
        return Decision(room)
    if (room.leader, room.fence, room.tick) != (seen.leader, seen.fence, seen.tick):
        return Decision(None)
    led = replace(room, leader=leader, fence=room.fence + 1)
    return Decision(led, led)


def resign_lead(found: Room | None, leader: str) -> Decision[Room, None]:
    """Let somebody else lead at once."""
    if found is None or found.leader != leader:
        return Decision(None)
    return Decision(None, replace(found, leader=None))


def aged(room: Room, now_ms: int, rules: LineRules) -> Room:
    """The room with its offers moved in time by what does not count against them.

    An offer ages only while it could have been claimed: not while the room holds, not while nobody ticked for longer
    than a lease (the service was down, and its people could not come), and not by a jump of the clock.
    """
    elapsed_ms = now_ms - room.ticked_ms
    counted_ms = 0 if room.holds(now_ms) else min(max(elapsed_ms, 0), rules.leader_lease_ms)
    shift_ms = elapsed_ms - counted_ms
    if shift_ms == 0 or room.ticked_ms == 0:
        return room
    return replace(
        room,
        offers=tuple(Offer(offer.upto, offer.at_ms + shift_ms) for offer in room.offers),
        returning=tuple(
            entry if entry.offered_ms is None else replace(entry, offered_ms=entry.offered_ms + shift_ms)
            for entry in room.returning
        ),
    )


def lapses_upto(room: Room, now_ms: int, rules: LineRules) -> int:
    """The last sequence whose first offer is over, answered or not. `room` is `aged`."""
    over = [offer.upto for offer in room.offers if now_ms - offer.at_ms > rules.claim_window_ms]
    return max(over, default=room.settled)


def lapses_again(entry: Returning, now_ms: int, rules: LineRules) -> bool:
    """True when the offer to a returning one is over. `entry` is of a room that is `aged`."""
    return entry.offered_ms is not None and now_ms - entry.offered_ms > rules.claim_window_ms


def tick(
    found: Room | None, read: Room, census: Census, now_ms: int, rules: LineRules
) -> Decision[Room, Ticked | None]:
    """Let people in, on the strength of a census taken after `read`. None when somebody else leads or has ticked."""
    if found is None or (found.leader, found.fence) != (read.leader, read.fence):
        return Decision(None)
    if found.tick == read.tick + 1:  # our own earlier success
        return Decision(Ticked(found, 0))
    if found.tick != read.tick:
        return Decision(None)
    before = _settle(aged(found, now_ms, rules), census)
    free = 0 if before.holds(now_ms) else max(0, before.capacity - census.open_sessions - census.unclaimed)
    offered_count = sum(1 for entry in before.returning if entry.offered_ms is not None)
    waiting = [entry.sequence for entry in before.returning if entry.offered_ms is None]
    admission = admit(
        free, waiting[: RETURNING_OFFERED_MAX - offered_count], before.watermark, before.issued, census.gone
    )
    moved = admission.watermark - before.watermark
    admitted = moved + len(admission.returning) - sum(1 for sequence in census.gone if sequence <= admission.watermark)
    chosen = frozenset(admission.returning)
    after = replace(
        before,
        watermark=admission.watermark,
        offers=_with_offer(before.offers, admission.watermark, now_ms) if moved else before.offers,
        returning=tuple(
            replace(entry, offered_ms=now_ms) if entry.sequence in chosen else entry for entry in before.returning
        ),
        rate=_rate(before, moved, now_ms, rules),
        tick=before.tick + 1,
        ticked_ms=now_ms,
        open_sessions=census.open_sessions,
        unclaimed=census.unclaimed + admitted,
    )
    return Decision(Ticked(after, admitted), after, [_told(after)])


def _settle(room: Room, census: Census) -> Room:
    """The room without the offers that are answered. The floor stays below everyone who is returning."""
    returning = tuple(entry for entry in room.returning if (entry.sequence, entry.round) not in census.answered)
    floor = min(census.floor, census.settled, *(entry.sequence - 1 for entry in returning))
    return replace(
        room,
        settled=max(room.settled, census.settled),
        floor=max(room.floor, floor),
        offers=tuple(offer for offer in room.offers if offer.upto > census.settled),
        returning=returning,
    )


def _with_offer(offers: tuple[Offer, ...], upto: int, now_ms: int) -> tuple[Offer, ...]:
    kept = offers[:-1] if len(offers) >= OFFERS_COUNT_MAX else offers
    return (*kept, Offer(upto, now_ms))


def _rate(before: Room, moved: int, now_ms: int, rules: LineRules) -> float:
    """The moving average after this tick. A line that is empty or holds says nothing about how fast it moves."""
    if before.holds(now_ms) or before.watermark == before.issued:
        return before.rate
    elapsed_s = min(max(now_ms - before.ticked_ms, 1), rules.leader_lease_ms) / 1000
    return before.rate + (1 - exp(-elapsed_s / RATE_WINDOW_S)) * (moved / elapsed_s - before.rate)


def _told(room: Room) -> LineMoved:
    return LineMoved(
        room=room.id,
        fence=room.fence,
        tick=room.tick,
        watermark=room.watermark,
        issued=room.issued,
        rate=round(room.rate, 3),
        state=room.state,
        at_ms=room.ticked_ms,
    )


def _existing(found: Room | None) -> Room:
    if found is None:
        raise RoomNotFound("This room has never been opened.")
    return found
