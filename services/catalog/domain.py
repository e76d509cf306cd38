"""What is on sale, when it counts as published, and how news of seats is merged.

**Publishing.** The one invariant: a published schedule never changes. A venue is many documents and each is written in
a step of its own, so a schedule counts as published only when its concert's document names it, together with the digest
of its layout. Layouts are proposed first: one that no concert names is invisible, so a crash in between leaves nothing
on sale, and the concert's one write puts everything on sale at once. Two who publish the same schedule in different
layouts may both propose; the concert's document names one of them, the other is refused.

**The view.** Per seat a mark `(n, state)`: `n` grows at every change of owner, freeing included, and within one `n` a
seat goes from held to paying to sold. The larger mark is the newer one, so merging is taking the maximum: order,
duplicates and replays do not matter.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

import orjson

from libs.common.contract.catalog import SCHEDULES_MAX, SEATS_MAX
from libs.common.errors import FieldError, InvalidField, Problem
from libs.common.events.catalog import SchedulePublished
from libs.common.storage.ports import Decision

ERRORS_TOLD_MAX = 100
"""Wrong fields one answer names."""

LAYOUTS_PROPOSED_MAX = 8
"""Different layouts kept for one schedule: only publications that were cut off or lost a race leave more than one."""


class ConcertNotFound(Problem):
    status, code, title = 404, "CONCERT_NOT_FOUND", "There is no such concert"


class ScheduleNotFound(Problem):
    status, code, title = 404, "SCHEDULE_NOT_FOUND", "There is no such schedule"


class AlreadyPublished(Problem):
    status, code, title = 409, "SCHEDULE_PUBLISHED", "What is on sale cannot be changed"


@dataclass(frozen=True, slots=True)
class Seat:
    """`price` is in points."""

    id: int
    number: str
    price: int


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    seats: tuple[Seat, ...]


@dataclass(frozen=True, slots=True)
class Section:
    name: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """A schedule: when, and every seat with its price. Made by `lay_out`.

    `digest` names this layout among all that were ever proposed for the schedule.
    """

    schedule: int
    concert: int
    room: int
    starts_at_ms: int
    sections: tuple[Section, ...]
    digest: str

    def places(self) -> Iterator[tuple[Section, Row, Seat]]:
        """Every seat and where it is, in the order of the venue."""
        for section in self.sections:
            for row in section.rows:
                for seat in row.seats:
                    yield section, row, seat


@dataclass(frozen=True, slots=True)
class Proposals:
    """All that is stored of a schedule: whose it is, and by digest every layout proposed for it."""

    schedule: int
    concert: int
    layouts: Mapping[str, Layout]


@dataclass(frozen=True, slots=True)
class Listing:
    """A published schedule as its concert names it. `price` is that of the cheapest seat."""

    schedule: int
    digest: str
    starts_at_ms: int
    seat_count: int
    price: int


@dataclass(frozen=True, slots=True)
class Concert:
    """A concert and its published schedules, by start."""

    id: int
    title: str
    venue: str
    room: int
    schedules: tuple[Listing, ...] = ()

    @property
    def seat_count(self) -> int:
        return sum(listing.seat_count for listing in self.schedules)


@dataclass(frozen=True)
class Venue:
    """What a loader wants on sale: a concert and layouts, in the order of the request."""

    concert: Concert
    layouts: tuple[Layout, ...]


def lay_out(schedule: int, concert: int, room: int, starts_at_ms: int, sections: tuple[Section, ...]) -> Layout:
    """The layout with these seats, under its digest."""
    content = orjson.dumps([schedule, concert, room, starts_at_ms, sections])
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    return Layout(schedule, concert, room, starts_at_ms, sections, digest)


def check_venue(venue: Venue, concert_in_path: int) -> None:
    """Raises InvalidField that names what contradicts itself: ids and places given twice, too many seats."""
    errors = list(islice(_contradictions(venue, concert_in_path), ERRORS_TOLD_MAX))
    if errors:
        raise InvalidField("The venue contradicts itself; nothing was published.", errors=errors)


def propose(current: Proposals | None, layout: Layout) -> Decision[Proposals, None]:
    """Keep a layout for its schedule. Raises AlreadyPublished for another concert's schedule, or too many layouts."""
    if current is None:
        return Decision(None, Proposals(layout.schedule, layout.concert, {layout.digest: layout}))
    if current.concert != layout.concert:
        raise AlreadyPublished(f"Schedule {layout.schedule} belongs to concert {current.concert}; use another id.")
    if layout.digest in current.layouts:
        return Decision(None)
    if len(current.layouts) >= LAYOUTS_PROPOSED_MAX:
        raise AlreadyPublished(f"Too many layouts were tried for schedule {layout.schedule}; use another id.")
    return Decision(None, replace(current, layouts={**current.layouts, layout.digest: layout}))


def unnamed(current: Concert | None, venue: Venue) -> list[Layout]:
    """The venue's layouts that are not published yet.

    Raises AlreadyPublished when one is published in another layout or the concert is on sale in another room, and
    InvalidField when the concert would have too many schedules.
    """
    if current is None:
        return list(venue.layouts)
    if current.room != venue.concert.room:
        wrong = FieldError("/room", f"the schedules on sale are in room {current.room}")
        raise AlreadyPublished("A concert with schedules on sale stays in its room.", errors=[wrong])
    named = {listing.schedule: listing.digest for listing in current.schedules}
    changed = [
        FieldError(f"/schedules/{index}", f"schedule {layout.schedule} is on sale with other seats, prices or start")
        for index, layout in enumerate(venue.layouts)
        if named.get(layout.schedule, layout.digest) != layout.digest
    ]
    if changed:
        raise AlreadyPublished(
            "A schedule on sale cannot be changed; nothing was published.", errors=changed[:ERRORS_TOLD_MAX]
        )
    added = [layout for layout in venue.layouts if layout.schedule not in named]
    if len(named) + len(added) > SCHEDULES_MAX:
        wrong = FieldError("/schedules", f"{len(named)} are on sale and {len(added)} new; at most {SCHEDULES_MAX} fit")
        raise InvalidField("The concert would have too many schedules.", errors=[wrong])
    return added


def publish(current: Concert | None, venue: Venue, now_ms: int) -> Decision[Concert, Concert]:
    """Name the venue's layouts, all of which are proposed: from here on they are on sale. Raises AlreadyPublished."""
    added = [listing_of(layout) for layout in unnamed(current, venue)]
    listings = (*(current.schedules if current else ()), *added)
    wanted = replace(
        venue.concert,
        schedules=tuple(sorted(listings, key=lambda listing: (listing.starts_at_ms, listing.schedule))),
    )
    events = [
        SchedulePublished(listing.schedule, wanted.id, wanted.room, listing.seat_count, now_ms) for listing in added
    ]
    return Decision(wanted, None if wanted == current else wanted, events)


def listing_of(layout: Layout) -> Listing:
    """A layout as its concert names it."""
    prices = [seat.price for _, _, seat in layout.places()]
    return Listing(layout.schedule, layout.digest, layout.starts_at_ms, len(prices), min(prices))


def published_layout(proposals: Proposals, concert: Concert | None) -> Layout | None:
    """The layout that the concert names; None while it names none."""
    for listing in concert.schedules if concert else ():
        if listing.schedule == proposals.schedule:
            return proposals.layouts.get(listing.digest)
    return None


def concert_body(concert: Concert) -> dict[str, Any]:
    """A concert as plain JSON; listings are rows, because there may be a thousand."""
    listings = [[one.schedule, one.digest, one.starts_at_ms, one.seat_count, one.price] for one in concert.schedules]
    return {
        "id": concert.id,
        "title": concert.title,
        "venue": concert.venue,
        "room": concert.room,
        "schedules": listings,
    }


def concert_from(body: Mapping[str, Any]) -> Concert:
    """The reverse of `concert_body`."""
    listings = tuple(Listing(*row) for row in body["schedules"])
    return Concert(body["id"], body["title"], body["venue"], body["room"], listings)


def layout_body(layout: Layout) -> dict[str, Any]:
    """A layout as plain JSON; seats are rows, because there may be twenty thousand."""
    return {
        "schedule": layout.schedule,
        "concert": layout.concert,
        "room": layout.room,
        "startsAtMs": layout.starts_at_ms,
        "digest": layout.digest,
        "sections": [
            [
                section.name,
                [[row.name, [[seat.id, seat.number, seat.price] for seat in row.seats]] for row in section.rows],
            ]
            for section in layout.sections
        ],
    }


def layout_from(body: Mapping[str, Any]) -> Layout:
    """The reverse of `layout_body`."""
    sections = tuple(
        Section(name, tuple(Row(row, tuple(Seat(*seat) for seat in seats)) for row, seats in rows))
        for name, rows in body["sections"]
    )
    return Layout(body["schedule"], body["concert"], body["room"], body["startsAtMs"], sections, body["digest"])


SeatState = Literal["free", "held", "paying", "sold"]
Mark = int
"""`n` and state of a seat in one integer, ordered as they are: comparing marks is comparing news."""

_STATES: tuple[SeatState, ...] = ("free", "held", "paying", "sold")
_RANKS = {state: rank for rank, state in enumerate(_STATES)}

UNTOUCHED: Mark = 0
"""The mark of a seat nobody ever held; every other one is larger."""


def mark(n: int, state: SeatState) -> Mark:
    """The mark of a seat that is in its `n`-th ownership."""
    return n * len(_STATES) + _RANKS[state]


def is_taken(seat: Mark) -> bool:
    """True unless the seat is free: whoever holds it, pays for it or has bought it."""
    return seat % len(_STATES) != _RANKS["free"]


def _contradictions(venue: Venue, concert_in_path: int) -> Iterator[FieldError]:
    if venue.concert.id != concert_in_path:
        yield FieldError("/id", f"is {venue.concert.id}, but the path says {concert_in_path}")
    yield from _repeated(
        (f"/schedules/{index}/id", layout.schedule, f"schedule {layout.schedule}")
        for index, layout in enumerate(venue.layouts)
    )
    for index, layout in enumerate(venue.layouts):
        seat_count = sum(len(row.seats) for section in layout.sections for row in section.rows)
        if seat_count > SEATS_MAX:
            yield FieldError(f"/schedules/{index}/sections", f"has {seat_count} seats; at most {SEATS_MAX} fit")
        ids = {seat.id for _, _, seat in layout.places()}
        places = {(section.name, row.name, seat.number) for section, row, seat in layout.places()}
        if min(len(ids), len(places)) < seat_count:
            yield from _repeated_seats(layout, f"/schedules/{index}")


def _repeated_seats(layout: Layout, base: str) -> Iterator[FieldError]:
    places = list(zip(_pointers(layout, base), layout.places(), strict=True))
    yield from _repeated((f"{pointer}/id", seat.id, f"seat {seat.id}") for pointer, (_, _, seat) in places)
    yield from _repeated(
        (f"{pointer}/number", (section.name, row.name, seat.number), f"{section.name} {row.name} {seat.number}")
        for pointer, (section, row, seat) in places
    )


def _pointers(layout: Layout, base: str) -> Iterator[str]:
    """The RFC 6901 pointer of every seat, in the order of `places`."""
    for section_at, section in enumerate(layout.sections):
        for row_at, row in enumerate(section.rows):
            for seat_at in range(len(row.seats)):
                yield f"{base}/sections/{section_at}/rows/{row_at}/seats/{seat_at}"


def _repeated(named: Iterable[tuple[str, object, str]]) -> Iterator[FieldError]:
    """An error for each (pointer, key, words) whose key was there before."""
    seen: set[object] = set()
    for pointer, key, words in named:
        if key in seen:
            yield FieldError(pointer, f"{words} is there twice")
        seen.add(key)
