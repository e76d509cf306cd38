"""Nothing waits past its deadline (I8): reservations, seats, visits, outboxes, groups.

Here everything that is late or under way is an offence *until* its deadline and the grace after it: a running system
may have it, one that has come to rest may not (see `looking.py`).
"""

from collections.abc import Iterator

from loadtest.audit.verdict import Check
from loadtest.audit.world import World

YOUNG_MS = 3_000
"""Events younger than this are on their way in every system that runs."""


def checks(world: World) -> Iterator[Check]:
    yield _reservations(world)
    yield _visits(world)
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
