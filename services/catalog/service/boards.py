"""What is cached, in the form it is told: everything that never changes is encoded once, what the view moves is joined.

An answer is kept as bytes and encoded again only when the view moved, and at most once in `every_s` seconds: until then
the bytes of before are told again, which is a lookup.
"""

from collections.abc import Callable, Iterator

import orjson
from prometheus_client import Counter

from libs.common.clock import iso_utc
from services.catalog.domain import Concert, Layout, Listing, concert_from, layout_from, listing_of
from services.catalog.service.view import ScheduleView, View

SOLD_OUT = b'{"concertSeatInfo":[]}'


class Answer:
    """The bytes told last, what the view stood at then, and when that was."""

    __slots__ = ("_body", "_encoded_s", "_moves")

    def __init__(self) -> None:
        self._body = b""
        self._moves = -1
        self._encoded_s = float("-inf")

    def body(self, moves: int, now_s: float, every_s: float, encode: Callable[[], bytes], encodings: Counter) -> bytes:
        """The answer for a view at `moves`, at most `every_s` behind it."""
        if moves != self._moves and now_s - self._encoded_s >= every_s:
            self._body = encode()
            self._moves = moves
            self._encoded_s = now_s
            encodings.inc()
        return self._body


class ScheduleLine:
    """The summary of a schedule, in two pieces around the one figure that moves."""

    __slots__ = ("_head", "_tail", "listing")

    def __init__(self, concert: int, listing: Listing) -> None:
        self.listing = listing
        fixed = {"id": listing.schedule, "concertId": concert, "startsAt": iso_utc(listing.starts_at_ms)}
        self._head = orjson.dumps(fixed)[:-1] + b',"availableSeats":'
        self._tail = b',"totalSeats":%d,"price":%d}' % (listing.seat_count, listing.price)

    def left(self, view: View) -> int:
        """How many seats are free."""
        return self.listing.seat_count - len(view.of(self.listing.schedule).taken)

    def told(self, available: int) -> bytes:
        """The summary with this many free seats."""
        return self._head + b"%d" % available + self._tail


class ConcertBoard:
    """A concert and the lines of its schedules, by start."""

    def __init__(self, raw: bytes) -> None:
        self.concert: Concert = concert_from(orjson.loads(raw))
        self.answer = Answer()
        self._lines = [ScheduleLine(self.concert.id, listing) for listing in self.concert.schedules]

    def available(self, view: View) -> int:
        """Free seats of all schedules."""
        return sum(line.left(view) for line in self._lines)

    def encode(self, view: View) -> bytes:
        """The schedules that have a seat left."""
        counted = ((line, line.left(view)) for line in self._lines)
        return b'{"concertSchedules":[' + b",".join(line.told(left) for line, left in counted if left) + b"]}"


class SeatMap:
    """A published schedule: its seats as they are told, ready to be joined."""

    def __init__(self, raw: bytes) -> None:
        layout = layout_from(orjson.loads(raw))
        self.room = layout.room
        self.etag = f'"{layout.digest}"'
        self.answer = Answer()
        self._seats = list(_offers(layout))
        self.seat_count = len(self._seats)
        self._line = ScheduleLine(layout.concert, listing_of(layout))
        self.layout_body = _layout_body(layout)

    def encode(self, view: ScheduleView) -> bytes:
        """The free seats, in the order of the venue."""
        taken = view.taken
        free = [body for seat, body in self._seats if seat not in taken]
        if not free:
            return SOLD_OUT
        head = b'{"concertSeatInfo":{"concertSchedule":' + self._line.told(len(free)) + b',"concertSeat":['
        return head + b",".join(free) + b"]}}"


class ConcertList:
    """All concerts, by id."""

    def __init__(self, raw: bytes) -> None:
        self.ids: list[int] = []
        summaries = []
        for concert in map(concert_from, orjson.loads(raw)):
            self.ids.append(concert.id)
            summaries.append({"id": concert.id, "title": concert.title, "venue": concert.venue, "room": concert.room})
        self.body = orjson.dumps({"concerts": summaries})


def _offers(layout: Layout) -> Iterator[tuple[int, bytes]]:
    """Each seat's id and the seat as it is told. Put together here, because what orjson makes of a small object keeps
    the 4 KiB it was written in."""
    for section in layout.sections:
        for row in section.rows:
            place = b'%b,"row":%b' % (orjson.dumps(section.name), orjson.dumps(row.name))
            for seat in row.seats:
                fields = (seat.id, place, orjson.dumps(seat.number), seat.price)
                yield seat.id, b'{"id":%d,"section":%b,"number":%b,"price":%d}' % fields


def _layout_body(layout: Layout) -> bytes:
    sections = [
        {
            "name": section.name,
            "seats": [{"id": seat.id, "price": seat.price} for row in section.rows for seat in row.seats],
        }
        for section in layout.sections
    ]
    return orjson.dumps(
        {
            "id": layout.schedule,
            "concertId": layout.concert,
            "room": layout.room,
            "startsAt": iso_utc(layout.starts_at_ms),
            "sections": sections,
        }
    )
