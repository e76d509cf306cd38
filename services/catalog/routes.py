"""HTTP in: the catalog's operations, each translated into one call of the service. Answers come as ready bytes."""

from aiohttp.web import Response

from libs.common.clock import epoch_ms
from libs.common.contract import catalog as contract
from libs.common.web.endpoints import Call, Endpoint, answer
from services.catalog.domain import Concert, Row, Seat, Section, Venue, lay_out
from services.catalog.service.catalog import CatalogService

FRESH_HEADERS = {"Content-Type": "application/json", "Cache-Control": "no-store"}
FIXED_HEADERS = {"Content-Type": "application/json", "Cache-Control": "max-age=31536000, immutable"}


async def list_concerts(call: Call[CatalogService]) -> Response:
    return Response(body=await call.service.concerts(), headers=FRESH_HEADERS)


async def list_schedules(call: Call[CatalogService]) -> Response:
    body = await call.service.schedules(call.integer("concertId"), call.admission)
    return Response(body=body, headers=FRESH_HEADERS)


async def list_seats(call: Call[CatalogService]) -> Response:
    body = await call.service.seats(call.integer("scheduleId"), call.admission)
    return Response(body=body, headers=FRESH_HEADERS)


async def read_schedule(call: Call[CatalogService]) -> Response:
    seats = await call.service.layout(call.integer("id"))
    return Response(body=seats.layout_body, headers={**FIXED_HEADERS, "ETag": seats.etag})


async def publish_concert(call: Call[CatalogService]) -> Response:
    draft: contract.ConcertDraft = call.body
    concert = await call.service.publish(_venue(draft), call.integer("id"))
    published = contract.PublishedConcert(id=concert.id, schedules=len(concert.schedules), seats=concert.seat_count)
    return answer(published)


def _venue(draft: contract.ConcertDraft) -> Venue:
    layouts = tuple(
        lay_out(one.id, draft.id, draft.room, epoch_ms(one.starts_at), tuple(map(_section, one.sections)))
        for one in draft.schedules
    )
    return Venue(Concert(draft.id, draft.title, draft.venue, draft.room), layouts)


def _section(section: contract.PublishedSection) -> Section:
    rows = (Row(row.name, tuple(Seat(seat.id, seat.number, seat.price) for seat in row.seats)) for row in section.rows)
    return Section(section.name, tuple(rows))


ENDPOINTS = (
    Endpoint(contract.LIST_CONCERTS, list_concerts),
    Endpoint(contract.LIST_SCHEDULES, list_schedules),
    Endpoint(contract.LIST_SEATS, list_seats),
    Endpoint(contract.PUBLISH_CONCERT, publish_concert),
    Endpoint(contract.READ_SCHEDULE, read_schedule),
)
