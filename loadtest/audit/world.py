"""A system as one look found it.

The order of reading is what keeps a look at a moving system nearly free of ghosts. An effect is read before its cause,
so whoever finds the effect finds the cause as well:

    outboxes ──▶ streams, groups, letters ──▶ reservation ──▶ wallet ──▶ queue ──▶ catalog
    published    in a stream                  confirmed       charged    a visit   a price

An event that was marked as published is in its stream by the time the stream is read; what is in a stream was committed
before; a confirmed reservation was charged before, its ticket came in before, its schedule was on sale before. Each
SQLite file is one snapshot, so what must hold within a service is judged as of one moment. MongoDB has no snapshot over
several finds, and some claims go against the order (whoever was charged is confirmed): what looks wrong there once is
looked at again (`looking.py`).
"""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from libs.common.events.topics import QUEUE_LINE
from loadtest.audit.doors.ports import Body, BrokerDoor, Document, Heard, Stored, StoreDoor

READ = {
    "reservation": ("blocks", "reservations", "tickets"),
    "wallet": ("entries",),
    "queue": ("rooms", "sessions"),
    "catalog": ("concerts", "schedules"),
}
"""What is read of each service, in this order."""

SEATS_MAX_USUAL = 8


@dataclass(frozen=True, slots=True)
class Rules:
    """What the system was started with. `grace_ms` is how long after its deadline a thing may still be under way."""

    seats_max: int = SEATS_MAX_USUAL
    skew_ms: int = 0
    grace_ms: int = 60_000


@dataclass
class World:
    """`began_ms` and `ended_ms` bracket the reading of the documents."""

    rules: Rules
    outboxes: dict[str, list[Stored]]
    heard: Heard | None
    documents: dict[str, list[Document]]
    began_ms: int
    ended_ms: int

    @cached_property
    def reservations(self) -> dict[str, Body]:
        return {document.id: document.body for document in self.documents["reservations"]}

    @cached_property
    def seats(self) -> dict[tuple[int, int], "Seat"]:
        """Every touched seat by (schedule, seat). One that two blocks have is here once; I13 tells of the other."""
        return {
            (document.body["schedule"], row[0]): Seat(document.body["schedule"], document.body["index"], *row)
            for document in self.documents["blocks"]
            for row in document.body["seats"]
        }

    @cached_property
    def taken(self) -> dict[int, tuple[int, int]]:
        """Of each schedule how many seats somebody has, and how often any of its seats changed its owner."""
        found: dict[int, tuple[int, int]] = defaultdict(lambda: (0, 0))
        for seat in self.seats.values():
            taken, moves = found[seat.schedule]
            found[seat.schedule] = (taken + (seat.state != "free"), moves + seat.n)
        return found

    @cached_property
    def prices(self) -> dict[int, dict[int, int]]:
        """Of every schedule on sale the price of each seat: those of the layout that its concert names."""
        named = {
            schedule: digest
            for document in self.documents["concerts"]
            for schedule, digest, *_ in document.body["schedules"]
        }
        return {
            document.body["schedule"]: {
                seat: price for _, rows in layout["sections"] for _, places in rows for seat, _, price in places
            }
            for document in self.documents["schedules"]
            for layout in document.body["layouts"]
            if layout["digest"] == named.get(document.body["schedule"])
        }

    @cached_property
    def rooms_of_schedules(self) -> dict[int, int]:
        return {
            listing[0]: document.body["room"]
            for document in self.documents["concerts"]
            for listing in document.body["schedules"]
        }

    @cached_property
    def rooms(self) -> dict[int, Body]:
        return {document.body["id"]: document.body for document in self.documents["rooms"]}

    @cached_property
    def sessions(self) -> dict[tuple[int, int], Body]:
        return {(each.body["room"], each.body["sequence"]): each.body for each in self.documents["sessions"]}


@dataclass(frozen=True, slots=True)
class Seat:
    """A seat as its block has it."""

    schedule: int
    block: int
    seat: int
    n: int
    state: str
    owner: str | None
    user: int | None
    until_ms: int | None

    def __str__(self) -> str:
        return f"seat {self.seat} of schedule {self.schedule} (n={self.n})"


def now_ms() -> int:
    return round(time.time() * 1000)


@dataclass
class Reader:
    """The doors of one system, and how to read all of it once. `read` raises CannotRead."""

    stores: dict[str, StoreDoor]
    broker: BrokerDoor | None
    rules: Rules = field(default_factory=Rules)
    now_ms: Callable[[], int] = now_ms

    def read(self) -> World:
        outboxes = {service: self.stores[service].outbox() for service in READ}
        heard = self.broker.hear(frozenset({QUEUE_LINE})) if self.broker else None
        began_ms = self.now_ms()
        documents: dict[str, list[Document]] = {}
        for service, collections in READ.items():
            documents |= self.stores[service].documents(collections)
        return World(self.rules, outboxes, heard, documents, began_ms, self.now_ms())
