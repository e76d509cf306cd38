"""What clients saw against what is there: acknowledged (I6), once per key (I9), in order (I11), theirs (I12), no crash
(I15)."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from libs.common.clock import iso_utc
from libs.common.ids import derived_id
from loadtest.audit.doors.ports import Body
from loadtest.audit.history import Call
from loadtest.audit.line import place_of
from loadtest.audit.verdict import Check
from loadtest.audit.world import World

HOLD, PAY = "/api/v1/concert/reservation", "/api/v1/payment"
JOIN, TICKET = "/api/v1/token/create", "/api/v1/token"
CHARGE = "/api/v1/users/charge/point"
WALLET = re.compile(r"/api/v1/users/(\d+)/wallet")

REFUSED = (402, 404, 409, 422)
"""Refusals of what was asked, not of the moment or of the caller."""

ENDED = ("CANCELLED", "EXPIRED", "REFUNDED")
FOLLOWS = {
    "CONFIRMED": ("CONFIRMED", "REFUNDING", "REFUNDED"),
    "CANCELLING": ("CANCELLING", "CANCELLED"),
    "REFUNDING": ("REFUNDING", "REFUNDED"),
    **{status: (status,) for status in ENDED},
}
"""What a reservation may be after somebody was told this status. After HELD and PAYING: anything."""

READ_EVERY_MS, LOOK_EVERY_MS, READING_MS = 10_000, 500, 2_000
BEHIND_MS = READ_EVERY_MS + LOOK_EVERY_MS + 2 * READING_MS
"""A gateway that hears nothing of the line knows it from its last reading of the rooms, and has it from before that
reading was answered until the next one is. It reads again so long after an answer, and looks so often whether it is
time; tests/audit/test_deaf_gateway.py holds these numbers against the gateway's own."""


def checks(world: World, history: Sequence[Call]) -> Iterator[Check]:
    yield _nothing_lost(world, history)
    yield _once_per_key(world, history)
    yield _one_effect(world, history)
    yield _in_order_of_arrival(history)
    yield _own_places(history)
    yield _nobody_overtakes(history)
    yield _theirs(world, history)
    yield _no_crash(history)


def _nothing_lost(world: World, history: Sequence[Call]) -> Check:
    check = Check("I6", "what was acknowledged is there, in that state or a later one")
    promised = [call for call in history if 200 <= call.status < 300]
    for call in promised:
        check.count += 1
        for told in _lost(world, call):
            check.offend(f"{call}, answered {call.status}: {told}")
    for call in _lost_charges(world, promised):
        told = f"no charge left user {_body(call)['userId']} with {_body(call)['amount']}"
        check.offend(f"{call}, answered {call.status}: {told}")
    balances = {(body["user"], body["balance_after"]) for _, _, body in world.documents["entries"]}
    for call in promised:
        shown = (_body(call).get("userId"), _body(call).get("amount"))
        if call.method == "GET" and WALLET.fullmatch(call.path):
            check.expect(shown in balances, f"{call}: no entry left user {shown[0]} with {shown[1]}")
    return check


def _lost_charges(world: World, promised: Sequence[Call]) -> Iterator[Call]:
    """Each charge has an entry of its own, which left what was told; one that is told again under its key has not."""
    left = Counter(
        (body["user"], body["balance_after"]) for _, _, body in world.documents["entries"] if body["kind"] == "charge"
    )
    known: set[tuple[int, int, str]] = set()
    for call in promised:
        told = _body(call)
        if (call.method, call.path) != ("PATCH", CHARGE) or "amount" not in told:
            continue
        balance = (told["userId"], told["amount"])
        if call.key is not None and (*balance, call.key) in known:
            continue
        known.add((*balance, call.key or ""))
        left[balance] -= 1
        if left[balance] < 0:
            yield call


def _lost(world: World, call: Call) -> Iterator[str]:
    told = _body(call)
    if call.path.startswith(HOLD) and "status" in told:
        yield from _lost_reservation(world, told)
    elif call.path.startswith(PAY) and "reservationId" in told:
        yield from _lost_payment(world, told)
    elif (call.method, call.path) == ("POST", JOIN) and "uuid" in told:
        yield from _lost_place(world, told["uuid"])
    elif _polled(call):
        yield from _lost_visit(world, call)
    elif (call.method, call.path) == ("DELETE", TICKET):
        yield from _lost_leave(world, call.ticket or "")


def _lost_place(world: World, ticket: str) -> Iterator[str]:
    place = place_of(ticket)
    if place is None:
        return
    if world.rooms.get(place[0], {"issued": 0})["issued"] < place[1]:
        yield f"place {place} was never given out"
    visit = world.sessions.get(place)
    if visit is not None and visit["ticket"] not in ("", ticket):
        yield f"place {place} was given to ticket {ticket}, and its visit is of {visit['ticket']}"


def _lost_visit(world: World, call: Call) -> Iterator[str]:
    """Who was told to come in has a visit. One that has ended, or that is over and not swept yet, was told so."""
    place, state = place_of(call.ticket or ""), _told(call)["state"]
    if place is None or state == "WAITING" or place[1] <= world.rooms.get(place[0], {"floor": 0})["floor"]:
        return
    visit = world.sessions.get(place)
    if visit is None or visit["state"] == "lapsed" or (state == "INSIDE" and visit["round"] == 0):
        yield f"ticket {call.ticket} was {state}, and its visit is {visit['state'] if visit else 'not there'}"
    elif state == "ENDED" and visit["state"] == "open" and visit["until_ms"] > call.answered_ms + world.rules.grace_ms:
        yield f"ticket {call.ticket} was ENDED, and its visit is open until {visit['until_ms']}"


def _lost_reservation(world: World, told: Body) -> Iterator[str]:
    found = world.reservations.get(told["id"])
    if found is None:
        yield f"there is no {told['id']}"
        return
    if found["status"] not in FOLLOWS.get(told["status"], (found["status"],)):
        yield f"{told['id']} was {told['status']} and is {found['status']}"
    if told["status"] == "HELD" and found["refusal"] is not None:
        yield f"{told['id']} was HELD and is filed as refused: {found['refusal']}"
    seats = [seat for seat, *_ in found["seats"]]
    stored = (found["user"], found["schedule"], seats, found["amount"], iso_utc(found["expires_ms"]))
    said = (told["userId"], told["concertScheduleId"], told["seatIds"], told["amount"], told["expiresAt"])
    if stored != said:
        yield f"{told['id']} was {said} and is {stored} (user, schedule, seats, amount, expiry)"


def _lost_payment(world: World, told: Body) -> Iterator[str]:
    id_, _, number = told["id"].rpartition("-")
    found = world.reservations.get(id_)
    attempts = found["attempts"] if found else []
    if not number.isdigit() or not 1 <= int(number) <= len(attempts):
        yield f"there is no payment {told['id']}"
        return
    outcome = attempts[int(number) - 1]["outcome"]
    if told["status"] != "PENDING" and told["status"] != str(outcome).upper():
        yield f"payment {told['id']} was {told['status']} and is {outcome or 'pending'}"
    said = (told["reservationId"], told["userId"], told["amount"])
    if found and said != (id_, found["user"], found["amount"]):
        yield f"payment {told['id']} was {said} and is {(id_, found['user'], found['amount'])} (of, user, amount)"
    if found and told["status"] == "COMPLETED" and found["status"] not in FOLLOWS["CONFIRMED"]:
        yield f"payment {told['id']} was COMPLETED and {id_} is {found['status']}"


def _lost_leave(world: World, ticket: str) -> Iterator[str]:
    place = place_of(ticket)
    if place is None or place[1] <= world.rooms.get(place[0], {"floor": 0})["floor"]:
        return
    visit = world.sessions.get(place)
    if visit is None or visit["state"] != "ended":
        yield f"ticket {ticket} has left, and its visit is {visit['state'] if visit else 'not there'}"


def _once_per_key(world: World, history: Sequence[Call]) -> Check:
    check = Check("I9", "every sending of one key got the same answer, and no refusal after it")
    first: dict[tuple[Any, ...], Call] = {}
    for call in history:
        if call.key is None or call.method == "GET" or not (call.is_done or call.status in REFUSED):
            continue
        check.count += 1
        name = (call.user, call.method, call.path, call.key)
        who = f"key {call.key} of user {call.user} for {call.method} {call.path}"
        if not call.is_done:
            if (known := first.get(name)) and _is_taken_back(world, known, call):
                check.offend(f"{who} was answered {known.status} and then {call.status} {_body(call).get('code')}")
            continue
        known = first.setdefault(name, call)
        if known.request != call.request:
            check.offend(f"{who} was done with the bodies {known.request} and {call.request}")
        elif (known.status, _kept(known)) != (call.status, _kept(call)):
            check.offend(f"{who} was answered {known.status} {_kept(known)} and {call.status} {_kept(call)}")
    return check


def _is_taken_back(world: World, known: Call, refused: Call) -> bool:
    """True for a refusal of what had been answered when it was sent again. Another body is rightly refused; so is a key
    that was answered with a payment which another key had made, once that was given back."""
    is_again = (known.request, known.ticket) == (refused.request, refused.ticket)
    code = _body(refused).get("code")
    if not is_again or refused.sent_ms <= known.answered_ms or code == "REQUEST_IN_PROGRESS":
        return False
    paid = world.reservations.get(_body(known).get("reservationId", ""))
    return code != "HOLD_EXPIRED" or paid is None or paid["status"] not in ("REFUNDING", "REFUNDED")


def _one_effect(world: World, history: Sequence[Call]) -> Check:
    """The id of an effect follows from user, route and key. So a second effect, made when the reply to the first was
    lost, would have to have another id."""
    check = Check("I9", "what a key did is there under the id that follows from the key")
    charged = {body["op"]: body["balance_after"] for _, _, body in world.documents["entries"]}
    for call in history:
        if call.key is None or call.user is None or not call.is_done:
            continue
        told = _body(call)
        if (call.method, call.path) == ("POST", HOLD) and "id" in told:
            wanted = derived_id("r", call.user, "hold", call.key)
            check.expect(told["id"] == wanted, f"{call}: key {call.key} made {told['id']}, not {wanted}")
        elif (call.method, call.path) == ("PATCH", CHARGE) and "amount" in told:
            op = f"charge:{derived_id('c', call.user, 'charge', call.key)}"
            there = charged.get(op, "nothing")
            check.expect(
                there == told["amount"], f"{call}: key {call.key} left {told['amount']}; under {op} is {there}"
            )
    return check


def _kept(call: Call) -> object:
    """The part of an answer that does not move: of a join that is the ticket."""
    return _body(call).get("uuid") if call.path == JOIN else call.body


def _in_order_of_arrival(history: Sequence[Call]) -> Check:
    check = Check("I11", "who joined after somebody had been answered stands behind them")
    joins = [(call, place) for call in history if call.path == JOIN and (place := _joined(call))]
    first = {place: call for call, place in reversed(joins)}
    begun = _first_sendings(history)
    starts = sorted((begun.get((call.user, call.key), call.sent_ms), place, call) for place, call in first.items())
    answered = sorted(first.items(), key=lambda join: join[1].answered_ms)
    last: dict[int, int] = {}
    position = 0
    for sent_ms, (room, sequence), call in starts:
        while position < len(answered) and answered[position][1].answered_ms < sent_ms:
            before = answered[position][0]
            last[before[0]] = max(last.get(before[0], 0), before[1])
            position += 1
        told = f"{call}: place {sequence} of room {room} was given out after place {last.get(room, 0)}"
        check.expect(sequence > last.get(room, 0), told)
    return check


def _first_sendings(history: Sequence[Call]) -> dict[tuple[int | None, str | None], int]:
    """When the first join under each key was sent. One that was not answered, or refused for now, may well have given
    out the place that a later sending is told."""
    first: dict[tuple[int | None, str | None], int] = {}
    for call in history:
        if call.path == JOIN and call.key is not None:
            first[call.user, call.key] = min(call.sent_ms, first.get((call.user, call.key), call.sent_ms))
    return first


def _joined(call: Call) -> tuple[int, int] | None:
    uuid = _body(call).get("uuid")
    return place_of(uuid) if call.status == 201 and isinstance(uuid, str) else None


def _own_places(history: Sequence[Call]) -> Check:
    check = Check("I11", "no place in line was given to two joins")
    first: dict[tuple[int, int], Call] = {}
    for call in history:
        place = _joined(call) if call.path == JOIN else None
        if place is None:
            continue
        known = first.setdefault(place, call)
        is_again = call.key is not None and (call.user, call.key) == (known.user, known.key)
        room, sequence = place
        told = f"{call}: place {sequence} of room {room} was given to user {call.user} and, before, to {known.user}"
        check.expect(known is call or is_again, told)
    return check


def _nobody_overtakes(history: Sequence[Call]) -> Check:
    """Position 1 is also that of people who come back after their offer lapsed. That nobody comes in out of turn is
    seen in the stores (`line.py`); this is about those who could, and whose gateway does not tell them."""
    check = Check("I11", f"nobody waits {BEHIND_MS / 1000:g} s after somebody behind them was told to come in")
    seen = [(call, place) for call in history if (place := _polled(call))]
    inside: dict[int, int] = {}
    position = 0
    for call, (room, sequence) in sorted(seen, key=lambda poll: poll[0].sent_ms):
        while position < len(seen) and seen[position][0].answered_ms < call.sent_ms - BEHIND_MS:
            known, (known_room, known_sequence) = seen[position]
            if _told(known)["state"] == "INSIDE":
                inside[known_room] = max(inside.get(known_room, 0), known_sequence)
            position += 1
        is_behind = _told(call)["state"] == "WAITING" and _told(call)["position"] > 1
        ahead = inside.get(room, 0)
        told = f"{call}: place {sequence} of room {room} waits, and place {ahead} is inside"
        check.expect(not (is_behind and ahead > sequence), told)
    return check


def _polled(call: Call) -> tuple[int, int] | None:
    is_poll = (call.method, call.path, call.status) == ("GET", TICKET, 200)
    return place_of(call.ticket or "") if is_poll and "state" in _told(call) else None


def _body(call: Call) -> Body:
    return call.body or {}


def _told(call: Call) -> Body:
    found: Body = _body(call).get("waitingQueueWithPositionResult", {})
    return found


def _theirs(world: World, history: Sequence[Call]) -> Check:
    """Wallet routes carry no identity yet: what they answer is of the user who was asked for. Static tickets bind
    nobody: there only what a body says counts."""
    check = Check("I12", "nobody was shown or given what is somebody else's")
    for call in history:
        if _polled(call):
            shown = _told(call).get("uuid")
            check.expect(shown == call.ticket, f"{call}: ticket {call.ticket} was shown the place of {shown}")
        told = _body(call)
        asked = call.user if call.path == CHARGE else _wallet_asked(call)
        if asked is not None and call.status == 200 and "userId" in told:
            check.expect(told["userId"] == asked, f"{call}: the wallet of user {asked} was answered with {told}")
        if not (call.path.startswith((HOLD, PAY)) and 200 <= call.status < 300 and "userId" in told):
            continue
        check.count += 1
        if call.user is not None and call.user != told["userId"]:
            check.offend(f"{call}: user {call.user} was answered with {told['id']} of user {told['userId']}")
        found = world.reservations.get(told["reservationId"] if "reservationId" in told else told["id"])
        if found is not None and found["ticket"] != call.ticket:
            check.offend(f"{call}: ticket {call.ticket} was answered with {told['id']} of ticket {found['ticket']}")
    return check


def _wallet_asked(call: Call) -> int | None:
    named = WALLET.fullmatch(call.path)
    return int(named[1]) if named else None


def _no_crash(history: Sequence[Call]) -> Check:
    check = Check("I15", "no request got a server error other than 503")
    for call in history:
        check.expect(call.status < 500 or call.status == 503, f"{call} was answered {call.status}")
    return check
