"""The line: in order, within its capacity, and nobody holds seats who was not inside (I11).

An operator who lowers a room's capacity below the number of people inside is seen here as an offence until enough of
them have left: nothing that is stored tells of the capacity before.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

import orjson

from libs.common.events.topics import QUEUE_LINE
from loadtest.audit.doors.ports import Body, Heard
from loadtest.audit.verdict import Check
from loadtest.audit.world import World

REQUEST_MS = 5_000
"""A hold that was let in at the last moment of a visit may be filed this much later."""

TICKET_VERSION = "8"
"""Where a UUID has its version, a ticket of the line has this."""

BINDINGS_KEPT_MS = 6 * 24 * 60 * 60 * 1000
"""Bindings of tickets to users are kept for seven days."""


def checks(world: World) -> Iterator[Check]:
    yield _order(world)
    yield _visits(world)
    yield _capacity(world)
    yield _holders(world)
    if world.heard is not None:
        yield _moves(world, world.heard)


def place_of(ticket: str) -> tuple[int, int] | None:
    """The room and sequence that a ticket names; None for a static one."""
    digits = ticket.replace("-", "")
    if len(ticket) != 36 or len(digits) != 32 or not set(digits) <= set("0123456789abcdef"):
        return None
    plain = int(digits[:12] + digits[13:16], 16)
    return (plain >> 40) & 0xFFFF, plain & (2**40 - 1)


def _order(world: World) -> Check:
    check = Check(
        "I11", "in every room floor ≤ settled ≤ watermark ≤ issued; settled places have a visit, others an offer"
    )
    for document in world.documents["rooms"]:
        room, body = document.body["id"], document.body
        check.expect(document.id == str(room), f"room {document.id} says it is {room}")
        marks = [body[name] for name in ("floor", "settled", "watermark", "issued")]
        check.expect(
            marks[0] >= 0 and marks == sorted(marks), f"room {room}: floor, settled, watermark, issued {marks}"
        )
        # A place up to the watermark without an offer would never lapse, and never be given to anybody else.
        uptos = [upto for upto, _ in body["offers"]]
        ends = [body["settled"], *uptos]
        is_whole = ends == sorted(set(ends)) and ends[-1] == body["watermark"]
        check.expect(is_whole, f"room {room}: offers up to {uptos} between {body['settled']} and {body['watermark']}")
        for sequence in range(body["floor"] + 1, body["settled"] + 1):
            check.expect(
                (room, sequence) in world.sessions, f"room {room}: place {sequence} is settled without a visit"
            )
    return check


def _visits(world: World) -> Check:
    check = Check("I11", "every visit is of one ticket that was let in, or left before")
    owner: dict[str, str] = {}
    for document in world.documents["sessions"]:
        check.count += 1
        body, id_ = document.body, document.id
        room = world.rooms.get(body["room"], {"watermark": 0, "issued": 0})
        if id_ != f"{body['room']}:{body['sequence']}":
            check.offend(f"visit {id_} says it is {body['room']}:{body['sequence']}")
        if body["ticket"] and place_of(body["ticket"]) != (body["room"], body["sequence"]):
            check.offend(f"visit {id_} is of ticket {body['ticket']}, which is {place_of(body['ticket'])}")
        if body["ticket"] and owner.setdefault(body["ticket"], id_) != id_:
            check.offend(f"ticket {body['ticket']} has the visits {owner[body['ticket']]} and {id_}")
        has_left = body["state"] == "ended" and body["round"] == 0
        limit = "issued" if has_left else "watermark"
        if body["sequence"] > room[limit]:
            check.offend(f"visit {id_} is {body['state']} beyond {limit} {room[limit]}")
        if body["state"] == "open" and (body["until_ms"] is None or not body["ticket"]):
            check.offend(f"visit {id_} is open for ticket {body['ticket'] or 'none'} until {body['until_ms']}")
    return check


def _capacity(world: World) -> Check:
    """Counts visits and offers up to the watermark that was read: those after it were let in later.

    The numbers are not named: they change with everybody who comes or leaves, and too many is wrong all the same.
    """
    check = Check("I11", "people inside and offers nobody answered are never more than the capacity")
    inside: Counter[int] = Counter()
    present: Counter[int] = Counter()
    for (room, sequence), body in world.sessions.items():
        found = world.rooms.get(room)
        if found is None or sequence > found["watermark"]:
            continue
        present[room] += sequence > found["settled"]
        inside[room] += body["state"] == "open" and (body["until_ms"] or 0) > world.ended_ms
    for room, body in world.rooms.items():
        unclaimed = body["watermark"] - body["settled"] - present[room] + _awaited(world, room, body["returning"])
        check.expect(
            inside[room] + unclaimed <= body["capacity"],
            f"room {room} has more people inside and offers nobody answered than its capacity of {body['capacity']}",
        )
    return check


def _awaited(world: World, room: int, returning: Sequence[tuple[int, int, int | None]]) -> int:
    """Offers to people who come back, neither answered nor lapsed."""
    count = 0
    for sequence, round_, offered_ms in returning:
        visit = world.sessions.get((room, sequence))
        count += offered_ms is not None and visit is not None and visit["state"] == "lapsed" and visit["round"] < round_
    return count


def _holders(world: World) -> Check:
    check = Check("I11", "every hold was made by a visit that was open, in the schedule's room, by the ticket's user")
    users = {document.id: document.body["user"] for document in world.documents["tickets"]}
    for id_, body in world.reservations.items():
        check.count += 1
        if body["room"] is None:
            if place_of(body["ticket"]) and body["ticket"][14] == TICKET_VERSION:
                check.offend(f"{id_}: made as by a static ticket, but {body['ticket']} is one of the line")
            continue
        for told in _wrong_with(world, body, users.get(body["ticket"])):
            check.offend(f"{id_}: {told}")
    return check


def _wrong_with(world: World, body: Body, user: int | None) -> Iterator[str]:
    place = (body["room"], body["sequence"])
    if place_of(body["ticket"]) != place:
        yield f"ticket {body['ticket']} is {place_of(body['ticket'])}, not {place}"
    is_kept = body["created_ms"] > world.began_ms - BINDINGS_KEPT_MS
    # A hold that was undone came to its end before it bound the ticket, or because that was bound to somebody else.
    if body["refusal"] is None and user != body["user"] and (user is not None or is_kept):
        yield f"ticket {body['ticket']} is bound to user {user}, and the hold is user {body['user']}'s"
    if (room := world.rooms_of_schedules.get(body["schedule"])) != body["room"]:
        yield f"made in room {body['room']}, but schedule {body['schedule']} is sold in room {room}"
    visit = world.sessions.get(place)
    if visit is not None:
        yield from _wrong_with_visit(world, body, visit)
    elif body["sequence"] > world.rooms.get(body["room"], {"floor": 0})["floor"]:
        yield f"there is no visit of {place}"


def _wrong_with_visit(world: World, body: Body, visit: Body) -> Iterator[str]:
    place = (body["room"], body["sequence"])
    if visit["state"] == "lapsed":
        yield f"the visit of {place} has lapsed"
    elif visit["ticket"] != body["ticket"]:
        yield f"made by {body['ticket']}, but the visit of {place} is of {visit['ticket']}"
    elif body["created_ms"] > (visit["until_ms"] or 0) + world.rules.skew_ms + REQUEST_MS:
        yield f"made at {body['created_ms']}, after its visit's end at {visit['until_ms']}"
    elif visit["round"] == 0:
        yield f"the visit of {place} ended before it began"
    elif visit["state"] == "ended" and body["created_ms"] > visit["at_ms"] + world.rules.skew_ms + world.rules.grace_ms:
        # Everybody hears of it within a second, or when what keeps them from hearing is over.
        yield f"made at {body['created_ms']}, long after its visit ended ({visit['reason']}) at {visit['at_ms']}"


def _moves(world: World, heard: Heard) -> Check:
    check = Check("I11", "no line ever moved back, moved twice at once, or was told to be further than it is")
    moves: dict[int, list[tuple[int, int, int, int]]] = {}
    for raw in heard.streams[QUEUE_LINE].bodies:
        body = _line(raw)
        if body is not None:
            moved = (body["fence"], body["tick"], body["watermark"], body["issued"])
            moves.setdefault(body["room"], []).append(moved)
    for room, line in moves.items():
        line.sort()
        for before, after in pairwise(line):
            is_forward = before[2] <= after[2] and before[3] <= after[3]
            is_one_move = before[:2] < after[:2] or before == after  # the same one may be told twice
            told = f"room {room} went from {before} to {after} (fence, tick, watermark, issued)"
            check.expect(is_forward and is_one_move, told)
        known = world.rooms.get(room, {"watermark": 0, "issued": 0})
        is_there = line[-1][2] <= known["watermark"] and line[-1][3] <= known["issued"]
        check.expect(
            is_there, f"room {room} was told to be at {line[-1][2:]}, and is at {known['watermark']}, {known['issued']}"
        )
    return check


def _line(raw: bytes) -> Body | None:
    """The body of a LineMoved; None for what is none, which I10 tells of."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    wanted = ("room", "fence", "tick", "watermark", "issued")
    return body if isinstance(body, dict) and all(isinstance(body.get(name), int) for name in wanted) else None
