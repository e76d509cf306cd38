"""HTTP in: the queue's internal operations, each translated into one call of the service."""

from dataclasses import dataclass

from aiohttp.web import Response

from libs.common.clock import epoch_ms, iso_utc
from libs.common.contract import queue as contract
from libs.common.web.endpoints import Call, Endpoint, answer
from services.queue.domain.line import Room, RoomChange
from services.queue.domain.visits import Standing
from services.queue.service.keeping import Keeping
from services.queue.service.visitors import Visitors


@dataclass(frozen=True, slots=True)
class Service:
    """The two sides of the queue that are asked over HTTP."""

    visitors: Visitors
    keeping: Keeping


async def issue(call: Call[Service]) -> Response:
    body: contract.JoinRequest = call.body
    ticket, replayed = await call.service.visitors.join(body.room, body.user_id, call.key)
    joined = contract.Joined(ticket=ticket.text, room=ticket.room, sequence=ticket.sequence)
    return answer(joined, 201, replayed=replayed)


async def claim(call: Call[Service]) -> Response:
    body: contract.ClaimRequest = call.body
    return answer(_session(await call.service.visitors.claim(body.ticket)))


async def read_session(call: Call[Service]) -> Response:
    return answer(_session(await call.service.visitors.read(call.params["ticket"])))


async def end_session(call: Call[Service]) -> Response:
    return answer(_session(await call.service.visitors.leave(call.params["ticket"])))


async def read_rooms(call: Call[Service]) -> Response:
    rooms = await call.service.keeping.rooms()
    return answer(contract.RoomsView(rooms=[_room(room) for room in rooms]))


async def patch_room(call: Call[Service]) -> Response:
    body: contract.RoomPatch = call.body
    change = RoomChange(
        state=body.state,
        capacity=body.capacity,
        moves_opening="opens_at" in body.model_fields_set,
        opens_at_ms=None if body.opens_at is None else epoch_ms(body.opens_at),
    )
    return answer(_room(await call.service.keeping.change(call.integer("id"), change, body.who, body.why)))


def _session(standing: Standing) -> contract.SessionView:
    return contract.SessionView(
        ticket=standing.ticket.text,
        room=standing.ticket.room,
        sequence=standing.ticket.sequence,
        state=standing.state,
        until_ms=standing.until_ms,
        reason=standing.reason,
    )


def _room(room: Room) -> contract.RoomView:
    return contract.RoomView(
        id=room.id,
        state=room.state,
        capacity=room.capacity,
        opens_at=None if room.opens_at_ms is None else iso_utc(room.opens_at_ms),
        watermark=room.watermark,
        issued=room.issued,
        rate=round(room.rate, 3),
        fence=room.fence,
        tick=room.tick,
        open_sessions=room.open_sessions,
        unclaimed=room.unclaimed,
        returning=len(room.returning),
        leader=room.leader,
    )


ENDPOINTS = (
    Endpoint(contract.ISSUE, issue),
    Endpoint(contract.CLAIM, claim),
    Endpoint(contract.READ_SESSION, read_session),
    Endpoint(contract.END_SESSION, end_session),
    Endpoint(contract.READ_ROOMS, read_rooms),
    Endpoint(contract.PATCH_ROOM, patch_room),
)
