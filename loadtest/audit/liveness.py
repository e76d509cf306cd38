"""Nothing waits past its deadline (I8): reservations, seats, visits, lines, outboxes, groups. Nor was anything ended
before its time (I6).

Of I8 everything that is late or under way is an offence *until* its deadline and the grace after it: a running system
may have it, one that has come to rest may not (see `looking.py`).
"""

from collections.abc import Iterator

from loadtest.audit.verdict import Check
from loadtest.audit.world import World

YOUNG_MS = 3_000
"""Events younger than this are on their way in every system that runs, and lines were ticked."""

BOUGHT = ("CONFIRMED", "REFUNDING", "REFUNDED")


def checks(world: World) -> Iterator[Check]:
    yield _reservations(world)
    yield _visits(world)
    yield _lines(world)
    yield _ended_in_time(world)
    yield _outboxes(world)
    if world.heard is not None:
        yield _groups(world)


def _reservations(world: World) -> Check:
    check = Check("I8", "no reservation and no held seat waits past its deadline")
    grace_ms, late_ms = world.rules.grace_ms, world.began_ms - world.rules.skew_ms
    for id_, body in world.reservations.items():
        check.count += 1
        if body["status"] == "PAYING":
            deadline_ms = body["attempts"][-1]["deadline_ms"]
            check.offend(f"{id_} is PAYING and should know by {deadline_ms}", deadline_ms + grace_ms)
        elif body["status"] in ("CANCELLING", "REFUNDING"):
            check.offend(f"{id_} is {body['status']} since {body['updated_ms']}", body["updated_ms"] + grace_ms)
        elif body["status"] == "HELD" and body["expires_ms"] <= late_ms:
            check.offend(f"{id_} is HELD and expired at {body['expires_ms']}", body["expires_ms"] + grace_ms)
        if body["owes"]:
            check.offend(f"{id_} owes its seats to {body['owes']}", body["updated_ms"] + grace_ms)
    for seat in world.seats.values():
        if seat.until_ms is not None and seat.until_ms <= late_ms:
            check.offend(f"{seat} is held and lapsed at {seat.until_ms}", seat.until_ms + grace_ms)
    return check


def _visits(world: World) -> Check:
    check = Check("I8", "no visit is open past its end")
    for (room, sequence), body in world.sessions.items():
        check.count += 1
        if body["state"] == "open" and body["until_ms"] <= world.began_ms - world.rules.skew_ms:
            told = f"visit {room}:{sequence} is open and ended at {body['until_ms']}"
            check.offend(told, body["until_ms"] + world.rules.grace_ms)
    return check


def _lines(world: World) -> Check:
    check = Check("I8", "no line stands still while people are in it")
    for room, body in world.rooms.items():
        check.count += 1
        is_awaited = body["settled"] < body["issued"] or body["returning"]
        if is_awaited and body["ticked_ms"] < world.began_ms - world.rules.skew_ms - YOUNG_MS:
            told = f"room {room} has people in line and was last ticked at {body['ticked_ms']}"
            check.offend(told, body["ticked_ms"] + world.rules.grace_ms)
    return check


def _ended_in_time(world: World) -> Check:
    """Whoever ends a thing because its time is over notes the time at which it found that, so clocks do not matter."""
    check = Check("I6", "no hold, payment or visit was ended by time before its time, and who paid has bought")
    for id_, body in world.reservations.items():
        check.count += 1
        if body["status"] == "EXPIRED" and body["updated_ms"] < body["expires_ms"]:
            check.offend(f"{id_} was to expire at {body['expires_ms']} and is EXPIRED since {body['updated_ms']}")
        last = body["attempts"][-1] if body["attempts"] else None
        is_called_off = body["status"] == "CANCELLING" or (last is not None and last["outcome"] == "cancelled")
        if last is not None and is_called_off and last["sent_ms"] < last["deadline_ms"]:
            told = f"at {last['sent_ms']}, before its deadline at {last['deadline_ms']}"
            check.offend(f"attempt {last['n']} of {id_} was called off {told}")
    buyers = {body["ticket"] for body in world.reservations.values() if body["status"] in BOUGHT}
    for (room, sequence), body in world.sessions.items():
        check.count += 1
        if body["reason"] == "expired" and body["at_ms"] < body["until_ms"]:
            told = f"was to end at {body['until_ms']} and has expired at {body['at_ms']}"
            check.offend(f"visit {room}:{sequence} {told}")
        if body["reason"] == "paid" and body["ticket"] not in buyers:
            check.offend(f"visit {room}:{sequence} ended as paid, and its ticket {body['ticket']} has bought nothing")
    return check


def _outboxes(world: World) -> Check:
    check = Check("I8", "outboxes are empty but for young events")
    for service, events in world.outboxes.items():
        for event in events:
            check.count += 1
            if not event.published and event.stored_ms < world.began_ms - YOUNG_MS:
                told = f"{event.id} waits in the outbox of {service} since {event.stored_ms}"
                check.offend(told, event.stored_ms + world.rules.grace_ms)
    return check


def _groups(world: World) -> Check:
    check = Check("I8", "groups have finished what their topics have, but for young events")
    for share in world.heard.shares if world.heard else ():
        check.count += 1
        if share.unfinished_count and share.oldest_ms < world.began_ms - YOUNG_MS:
            told = f"{share.group} has not finished what {share.topic} has since {share.oldest_ms}"
            check.offend(told, share.oldest_ms + world.rules.grace_ms)
    return check
