"""A real venue from a JSON file: checked whole, line by line, before anything is loaded.

The compact form (see `sample_venue.json`): every schedule has the same sections; a row says its seats as a range or
one by one; the price, in points, stands at the section, or at a seat that differs. Seat ids are not in the file: they
count from 1 in its order, so the same file always gives the same ids.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
    field_validator,
)

from infra.local.json_lines import Located, Pointer, WrongLine, parse_located
from libs.common.clock import epoch_ms
from libs.common.contract.catalog import PRICE_MAX, SCHEDULES_MAX, SEATS_MAX
from libs.common.errors import ConfigError
from libs.common.ids import INTEGER_MAX
from libs.common.tickets import ROOM_MAX

FILE_MAX_BYTES = 32 * 1024 * 1024
SEATS_TOTAL_MAX = 500_000
"""Of all schedules: what fits into `PUBLISH_BYTES_MAX` with room to spare."""

FAULTS_TOLD = 10

_Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
_Positive = Annotated[int, Field(ge=1, le=INTEGER_MAX)]
_Price = Annotated[int, Field(ge=1, le=PRICE_MAX)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Seat(_Part):
    number: _Name
    price: _Price | None = None


class _SeatRange(_Part):
    first: _Positive = Field(alias="from")
    last: _Positive = Field(alias="to")


_NumberOrSeat = Annotated[
    Annotated[_Name, Tag("number")] | Annotated[_Seat, Tag("seat")],
    Discriminator(lambda value: "number" if isinstance(value, str) else "seat"),
]
_SeatList = Annotated[list[_NumberOrSeat], Field(min_length=1, max_length=SEATS_MAX)]


class _Row(_Part):
    name: _Name
    seats: Annotated[
        Annotated[_SeatRange, Tag("range")] | Annotated[_SeatList, Tag("list")],
        Discriminator(lambda value: "range" if isinstance(value, dict) else "list"),
    ]


class _Section(_Part):
    name: _Name
    price: _Price | None = None
    rows: list[_Row] = Field(min_length=1)


class _Schedule(_Part):
    id: _Positive
    starts_at: str = Field(alias="startsAt")

    @field_validator("starts_at")
    @classmethod
    def _utc(cls, text: str) -> str:
        try:
            at_s = epoch_ms(text) / 1000
            return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        except (ValueError, OverflowError, OSError):
            raise ValueError(f"{text!r} is not a time with an offset, like 2027-03-01T19:00:00Z") from None


class _Venue(_Part):
    id: _Positive
    title: _Name
    venue: _Name
    room: int = Field(1, ge=1, le=ROOM_MAX)
    schedules: list[_Schedule] = Field(min_length=1, max_length=SCHEDULES_MAX)
    sections: list[_Section] = Field(min_length=1)


def read_venue(path: Path) -> dict[str, Any]:
    """The concert that the file describes, as the catalog takes it.

    Raises ConfigError with one `file:line: sentence` for each of the first `FAULTS_TOLD` faults.
    """
    try:
        if path.stat().st_size > FILE_MAX_BYTES:
            raise ConfigError(f"{path}: larger than {FILE_MAX_BYTES // 2**20} MiB")
        located = parse_located(path.read_bytes())
    except OSError as why:
        raise ConfigError(f"{path}: {why.strerror}") from None
    except WrongLine as wrong:
        raise ConfigError(f"{path}:{wrong.line}: {wrong.detail}") from None
    try:
        venue = _Venue.model_validate(located.value)
    except ValidationError as wrong:
        raise _refusal(path, (_fault(located, error["loc"], error["msg"]) for error in wrong.errors())) from None
    faults = [WrongLine(located.line(pointer), detail) for pointer, detail in _contradictions(venue)]
    if faults:
        raise _refusal(path, faults)
    return _concert(venue)


def _fault(located: Located, location: Pointer, message: str) -> WrongLine:
    # pydantic names the chosen form of a value too, on its way to it: those steps are not in the file.
    pointer: Pointer = ()
    for step in location:
        if (*pointer, step) in located.lines:
            pointer = (*pointer, step)
    names = ".".join(str(step) for step in pointer)
    missing = f"{location[-1]}: " if location and pointer[-1:] != location[-1:] else ""
    return WrongLine(located.line(pointer), f"{names or 'the venue'}: {missing}{message.removeprefix('Value error, ')}")


def _refusal(path: Path, faults: Iterable[WrongLine]) -> ConfigError:
    ordered = sorted(faults, key=lambda fault: fault.line)
    told = [f"{path}:{fault.line}: {fault.detail}" for fault in ordered[:FAULTS_TOLD]]
    if len(ordered) > FAULTS_TOLD:
        told.append(f"{path}: and {len(ordered) - FAULTS_TOLD} more")
    return ConfigError("\n".join(told))


def _contradictions(venue: _Venue) -> Iterator[tuple[Pointer, str]]:
    """What each part alone does not show: things there twice, seats without a price, more than there may be."""
    yield from _twice("schedule", [(("schedules", at, "id"), night.id) for at, night in enumerate(venue.schedules)])
    yield from _twice("section", [(("sections", at, "name"), part.name) for at, part in enumerate(venue.sections)])
    count = 0
    for section_at, section in enumerate(venue.sections):
        here: Pointer = ("sections", section_at, "rows")
        yield from _twice("row", [((*here, at, "name"), row.name) for at, row in enumerate(section.rows)])
        for row_at, row in enumerate(section.rows):
            where: Pointer = (*here, row_at, "seats")
            if isinstance(row.seats, _SeatRange) and not 0 <= row.seats.last - row.seats.first < SEATS_MAX:
                yield where, f"seats from {row.seats.first} to {row.seats.last} are not 1 to {SEATS_MAX:,} seats"
                continue
            seats = list(_seats(row))
            count += len(seats)
            yield from _twice("seat", [((*where, at), seat.number) for at, seat in enumerate(seats)])
            for at, seat in enumerate(seats):
                if seat.price is None and section.price is None:
                    yield (*where, at), f"seat {seat.number} has no price, neither here nor at its section"
    if count > SEATS_MAX or count * len(venue.schedules) > SEATS_TOTAL_MAX:
        most = f"{SEATS_MAX:,} a schedule, {SEATS_TOTAL_MAX:,} in all"
        yield ("sections",), f"{count:,} seats in {len(venue.schedules)} schedules are too many (at most {most})"


def _twice(what: str, named: Iterable[tuple[Pointer, str | int]]) -> Iterator[tuple[Pointer, str]]:
    seen: set[str | int] = set()
    for pointer, name in named:
        if name in seen:
            yield pointer, f"{what} {name} is there twice"
        seen.add(name)


def _seats(row: _Row) -> Iterator[_Seat]:
    if isinstance(row.seats, _SeatRange):
        for number in range(row.seats.first, row.seats.last + 1):
            yield _Seat(number=str(number))
    else:
        for seat in row.seats:
            yield _Seat(number=seat) if isinstance(seat, str) else seat


def _concert(venue: _Venue) -> dict[str, Any]:
    seat_id, sections = 0, []
    for section in venue.sections:
        rows = []
        for row in section.rows:
            seats = []
            for seat in _seats(row):
                seat_id += 1
                price = section.price if seat.price is None else seat.price
                seats.append({"id": seat_id, "number": seat.number, "price": price})
            rows.append({"name": row.name, "seats": seats})
        sections.append({"name": section.name, "rows": rows})
    nights = [{"id": night.id, "startsAt": night.starts_at, "sections": sections} for night in venue.schedules]
    return {"id": venue.id, "title": venue.title, "venue": venue.venue, "room": venue.room, "schedules": nights}
