"""Seats: each has one owner (I1), every owner is one (I2), all or none (I7), and they add up (I13)."""

from collections import Counter
from collections.abc import Iterator

from loadtest.audit.doors.ports import Body
from loadtest.audit.verdict import Check
from loadtest.audit.world import Seat, World

DEAD = ("CANCELLING", "CANCELLED", "EXPIRED", "REFUNDING", "REFUNDED")
MAY_OWN = {"paying": ("HELD", "PAYING"), "sold": ("CONFIRMED",)}
"""Status of the reservation that owns a seat in this state. A held seat lapses by itself, so its owner may be gone."""

OWED = {("paying", "sell"): ("CONFIRMED",), ("paying", "free"): DEAD, ("sold", "free"): ("REFUNDING", "REFUNDED")}
"""What else may own it, as long as it says that it owes the seat something."""


def checks(world: World) -> Iterator[Check]:
    yield _sold_once(world)
    yield _owners(world)
    yield _all_or_none(world)
    yield _add_up(world)
    yield _cap(world)


def _sold_once(world: World) -> Check:
    check = Check("I1", "a seat is in at most one confirmed reservation")
    owner: dict[tuple[int, int], str] = {}
    for id_, body in world.reservations.items():
        for seat, *_ in body["seats"] if body["status"] == "CONFIRMED" else ():
            place = (body["schedule"], seat)
            told = f"seat {seat} of schedule {body['schedule']} is confirmed for {owner.get(place)} and {id_}"
            check.expect(place not in owner, told)  # not twice in one reservation either
            owner[place] = id_
    return check


def _owners(world: World) -> Check:
    check = Check("I2", "a held, paying or sold seat has an owner, who may have it")
    for seat in world.seats.values():
        check.count += 1
        if seat.state == "free":
            if (seat.owner, seat.user, seat.until_ms) != (None, None, None):
                check.offend(f"{seat} is free and names {seat.owner} of user {seat.user} until {seat.until_ms}")
        elif seat.owner is None:
            check.offend(f"{seat} is {seat.state} and names no owner")
        else:
            _owner(world, check, seat, world.reservations.get(seat.owner))
    return check


def _owner(world: World, check: Check, seat: Seat, body: Body | None) -> None:
    if body is not None and body["user"] != seat.user:
        check.offend(f"{seat} is user {seat.user}'s, but {seat.owner} is user {body['user']}'s")
    if seat.state == "held":
        if seat.until_ms is None:
            check.offend(f"{seat} is held by {seat.owner} without an end")
        elif body is not None and _n_of(body, seat) == seat.n:
            _lapses_in_time(check, seat, body)
        return
    if seat.until_ms is not None:
        check.offend(f"{seat} is {seat.state} for {seat.owner} and would lapse at {seat.until_ms}")
    if body is None:
        check.offend(f"{seat} is {seat.state} for {seat.owner}, which is not there")
    elif (n := _n_of(body, seat)) != seat.n:
        check.offend(f"{seat} is {seat.state} for {seat.owner}, which has it with n={n}")
    elif body["status"] in OWED.get((seat.state, body["owes"]), ()):
        check.offend(
            f"{seat} is {seat.state} and {seat.owner}, {body['status']}, owes it to {body['owes']}",
            body["updated_ms"] + world.rules.grace_ms,
        )
    elif body["status"] not in MAY_OWN[seat.state]:
        check.offend(f"{seat} is {seat.state} for {seat.owner}, which is {body['status']}, owes={body['owes']}")


def _lapses_in_time(check: Check, seat: Seat, body: Body) -> None:
    """A held seat may lapse after its reservation has expired, and then is nobody's; never before."""
    if body["status"] in ("PAYING", "CONFIRMED"):
        check.offend(f"{seat} would lapse at {seat.until_ms}, but {seat.owner} is {body['status']}")
    elif body["status"] == "HELD" and (seat.until_ms or 0) < body["expires_ms"]:
        check.offend(f"{seat} lapses at {seat.until_ms}, before {seat.owner} expires at {body['expires_ms']}")


def _all_or_none(world: World) -> Check:
    check = Check("I7", "a reservation has all of its seats, or none once it is dead")
    for id_, body in world.reservations.items():
        states = _wanted_states(world, body)
        check.count += 1
        if body["id"] != id_:
            check.offend(f"reservation {id_} says it is {body['id']}")
        if not body["seats"]:
            check.offend(f"{id_} is {body['status']} and has no seats")
        for seat_id, block, n in body["seats"]:
            seat = world.seats.get((body["schedule"], seat_id))
            is_its = seat is not None and (seat.owner, seat.n, seat.block) == (id_, n, block)
            if states and not (is_its and seat and seat.state in states):
                there = f"{seat.state} for {seat.owner} with n={seat.n}" if seat else "untouched"
                check.offend(f"{id_} is {body['status']}, but seat {seat_id} (n={n}) is {there}")
            if body["status"] in DEAD and body["owes"] is None and seat and seat.owner == id_ and seat.state != "held":
                check.offend(f"{id_} is {body['status']} and still has {seat}, which is {seat.state}")
    return check


def _wanted_states(world: World, body: Body) -> tuple[str, ...]:
    """The states in which all seats of a reservation have to be; none where it need not have them."""
    status = body["status"]
    if status == "PAYING":
        return ("paying",)
    if status == "CONFIRMED":
        return ("paying", "sold") if body["owes"] == "sell" else ("sold",)
    if status == "HELD" and body["expires_ms"] + world.rules.skew_ms > world.ended_ms:
        return ("held", "paying")
    return ()


def _add_up(world: World) -> Check:
    check = Check("I13", "sold, held and free seats are the published ones, each in one block")
    blocks: Counter[tuple[int, int]] = Counter()
    for document in world.documents["blocks"]:
        schedule, index = document.body["schedule"], document.body["index"]
        published = world.prices.get(schedule, {})
        check.expect(document.id == f"{schedule}:{index}", f"block {document.id} says it is {schedule}:{index}")
        for seat, *_ in document.body["seats"]:
            blocks[schedule, seat] += 1
            check.expect(seat in published, f"block {document.id} has seat {seat}, which schedule {schedule} has not")
    for (schedule, seat), count in blocks.items():
        if count > 1:
            check.offend(f"seat {seat} of schedule {schedule} is in {count} places")
    for document in world.documents["concerts"]:
        for schedule, _, _, seat_count, _ in document.body["schedules"]:
            there = len(world.prices.get(schedule, {}))
            check.expect(there == seat_count, f"schedule {schedule} is sold as {seat_count} seats and has {there}")
    return check


def _cap(world: World) -> Check:
    check = Check("I13", f"a user has at most {world.rules.seats_max} seats of a schedule")
    counts: Counter[tuple[int, int]] = Counter()
    for body in world.reservations.values():
        if body["status"] in ("PAYING", "CONFIRMED") or _wanted_states(world, body):
            counts[body["user"], body["schedule"]] += len(body["seats"])
    for (user, schedule), count in counts.items():
        check.expect(count <= world.rules.seats_max, f"user {user} has {count} seats of schedule {schedule}")
    return check


def _n_of(body: Body, wanted: Seat) -> int | None:
    """The `n` with which a reservation has this seat; None when it has not."""
    if body["schedule"] != wanted.schedule:
        return None
    return next((n for seat, block, n in body["seats"] if (seat, block) == (wanted.seat, wanted.block)), None)
