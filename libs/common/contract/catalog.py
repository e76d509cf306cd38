"""The catalog's HTTP interface: what is on sale, and the loader's way in."""

from typing import Annotated

from pydantic import Field, field_validator

from libs.common.clock import epoch_ms
from libs.common.contract.operation import Amount, IsoTime, Model, Operation, PositiveInt
from libs.common.tickets import ROOM_MAX

SCHEDULES_MAX = 1_000
"""Schedules of one concert."""

SEATS_MAX = 20_000
"""Seats of one schedule."""

PRICE_MAX = 10**9
"""The dearest seat, in points: what the largest charge pays for."""

PUBLISH_BYTES_MAX = 32 * 1024 * 1024
"""The largest body of `PUBLISH_CONCERT`."""

STARTS_AT_MAX_MS = 253_402_300_799_999
"""The last millisecond of the year 9999; a start lies after 1970."""

Name = Annotated[str, Field(min_length=1, max_length=200)]
Price = Annotated[int, Field(ge=1, le=PRICE_MAX, description="points")]
RoomId = Annotated[int, Field(ge=1, le=ROOM_MAX, description="the waiting line that leads to this concert")]


class ConcertSummary(Model):
    id: PositiveInt
    title: str
    venue: str
    room: RoomId


class ConcertList(Model):
    concerts: Annotated[list[ConcertSummary], Field(description="by id")]


class ScheduleSummary(Model):
    """A date of a concert. `availableSeats` may be a moment behind: a hold decides, not this figure."""

    id: PositiveInt
    concert_id: PositiveInt
    starts_at: IsoTime
    available_seats: Amount
    total_seats: Amount
    price: Annotated[Price, Field(description="the lowest price of a seat, in points")]


class ScheduleList(Model):
    concert_schedules: Annotated[list[ScheduleSummary], Field(description="by start; only those with a seat left")]


class SeatOffer(Model):
    id: PositiveInt
    section: str
    row: str
    number: str
    price: Price


class SeatInfo(Model):
    concert_schedule: ScheduleSummary
    concert_seat: Annotated[list[SeatOffer], Field(description="the free seats, in the order of the venue")]


class SeatList(Model):
    """An empty list in place of the object says: sold out."""

    concert_seat_info: SeatInfo | Annotated[list[SeatOffer], Field(max_length=0)]


class PublishedSeat(Model):
    id: PositiveInt
    number: Name
    price: Price


class PublishedRow(Model):
    name: Name
    seats: Annotated[list[PublishedSeat], Field(min_length=1, max_length=SEATS_MAX)]


class PublishedSection(Model):
    name: Name
    rows: Annotated[list[PublishedRow], Field(min_length=1, max_length=SEATS_MAX)]


class PublishedSchedule(Model):
    """Seat ids, and the places (section, row, number), are unique within a schedule; schedule ids over all concerts."""

    id: PositiveInt
    starts_at: Annotated[IsoTime, Field(max_length=40, description="RFC 3339, with an offset")]
    sections: Annotated[list[PublishedSection], Field(min_length=1, max_length=SEATS_MAX)]

    @field_validator("starts_at")
    @classmethod
    def _is_a_time(cls, value: str) -> str:
        if not 0 < epoch_ms(value) <= STARTS_AT_MAX_MS:
            raise ValueError("must lie between 1970 and 9999")
        return value


class ConcertDraft(Model):
    """A whole venue. Schedules that were published before and are left out here stay as they are."""

    id: PositiveInt
    title: Name
    venue: Name
    room: RoomId
    schedules: Annotated[list[PublishedSchedule], Field(min_length=1, max_length=SCHEDULES_MAX)]


class PublishedConcert(Model):
    """The concert as it now stands: how many schedules and how many seats in all of them."""

    id: PositiveInt
    schedules: Amount
    seats: Amount


class SeatPrice(Model):
    id: PositiveInt
    price: Price


class SectionSeats(Model):
    name: str
    seats: list[SeatPrice]


class ScheduleLayout(Model):
    """What the reservation service needs of a schedule. Never changes once published."""

    id: PositiveInt
    concert_id: PositiveInt
    room: RoomId
    starts_at: IsoTime
    sections: list[SectionSeats]


LIST_CONCERTS = Operation(
    "listConcerts", "catalog", "GET", "/api/v1/concert", "Everything on sale", answer=ConcertList,
)  # fmt: skip
LIST_SCHEDULES = Operation(
    "listSchedules", "catalog", "GET", "/api/v1/concert/{concertId}/available-schedules",
    "The dates of a concert that have a seat left",
    answer=ScheduleList, problems=("CONCERT_NOT_FOUND", "WRONG_ROOM"), ticket="inside",
)  # fmt: skip
LIST_SEATS = Operation(
    "listSeats", "catalog", "GET", "/api/v1/concert/{scheduleId}/available-seats", "The free seats of a schedule",
    answer=SeatList, problems=("SCHEDULE_NOT_FOUND", "WRONG_ROOM"), ticket="inside",
)  # fmt: skip
PUBLISH_CONCERT = Operation(
    "publishConcert", "catalog", "PUT", "/internal/v1/concerts/{id}",
    "Put a concert on sale: the whole venue or nothing",
    body=ConcertDraft, answer=PublishedConcert, problems=("SCHEDULE_PUBLISHED",),
)  # fmt: skip
READ_SCHEDULE = Operation(
    "readSchedule", "catalog", "GET", "/internal/v1/schedules/{id}", "Room, start, seats and prices of a schedule",
    answer=ScheduleLayout, problems=("SCHEDULE_NOT_FOUND",),
)  # fmt: skip

OPERATIONS = (LIST_CONCERTS, LIST_SCHEDULES, LIST_SEATS, PUBLISH_CONCERT, READ_SCHEDULE)
