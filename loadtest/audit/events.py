"""Events: each one tells of a committed change, and each change that has to be told is told (I10).

An event's id names the change that caused it: `<collection>/<document>/<version>/<index>`. What is in a stream and
names no change was put there by somebody else; it has to be among the dead letters of every group of its topic, and
nothing else may be there.
"""

from collections.abc import Iterator

from libs.common.events.topics import TOPICS
from loadtest.audit.doors.ports import Heard
from loadtest.audit.verdict import Check
from loadtest.audit.world import World

MARGIN_MS = 2_000
"""Between the clocks of services and broker."""

OUTBOX_KEPT_MS = 23 * 60 * 60 * 1000
"""Published events stay in the outbox for a day."""

ANSWERED = ("pay", "decline", "void", "refund")
TOLD = {
    "CONFIRMED": "ReservationConfirmed",
    "CANCELLED": "ReservationCancelled",
    "REFUNDED": "ReservationCancelled",
    "EXPIRED": "ReservationExpired",
}
"""What tells of a reservation that is now in this status."""

ENDS = frozenset(TOLD.values())


def checks(world: World) -> Iterator[Check]:
    yield _changes_are_told(world)
    if world.heard is not None:
        trace = _Trace(world)
        yield _published_is_committed(world, world.heard, trace)
        yield _marked_is_published(world, world.heard)
        yield _dead_letters(world.heard, trace)


class _Trace:
    """Leads from an event's id to the change it tells of."""

    def __init__(self, world: World) -> None:
        self._versions = {
            name: {document.id: document.version for document in documents}
            for name, documents in world.documents.items()
        }
        self._floors = {room: body["floor"] for room, body in world.rooms.items()}

    def leads_to_a_change(self, event_id: str) -> bool:
        collection, _, rest = event_id.partition("/")
        parts = rest.rsplit("/", 2)
        if len(parts) != 3 or not (parts[1].isdigit() and parts[2].isdigit()):
            return False
        document, version = parts[0], int(parts[1])
        known = self._versions.get(collection, {}).get(document)
        if known is None:
            return collection == "sessions" and self._was_purged(document)
        return 1 <= version <= known

    def _was_purged(self, document: str) -> bool:
        room, _, sequence = document.partition(":")
        numbers = room.isdigit() and sequence.isdigit()
        return numbers and 1 <= int(sequence) <= self._floors.get(int(room), 0)


def _changes_are_told(world: World) -> Check:
    check = Check("I10", "ends of reservations, the wallet's answers and visits have their event, published or waiting")
    since_ms = world.began_ms - OUTBOX_KEPT_MS
    kept = {event.id for events in world.outboxes.values() for event in events}
    ends = {(event.type, event.id.split("/")[1]) for event in world.outboxes["reservation"] if event.type in ENDS}
    for id_, body in world.reservations.items():
        # A hold that was undone was never told of.
        if body["status"] in TOLD and body["refusal"] is None and body["updated_ms"] > since_ms:
            told = f"{id_} is {body['status']} and no event tells of it"
            check.expect((TOLD[body["status"]], id_) in ends, told)
    for id_, _, body in world.documents["entries"]:
        if body["kind"] in ANSWERED and body["at_ms"] > since_ms:
            check.expect(f"entries/{id_}/1/0" in kept, f"entry {id_} is a {body['kind']} and no event tells of it")
    for id_, version, body in world.documents["sessions"]:
        if body["state"] != "lapsed" and body["at_ms"] > since_ms:
            told = f"visit {id_} is {body['state']} since {body['at_ms']} and no event tells of it"
            check.expect(f"sessions/{id_}/{version}/0" in kept, told)
    return check


def _published_is_committed(world: World, heard: Heard, trace: _Trace) -> Check:
    check = Check("I10", "every event in a stream leads to a committed change, or is poison that every group buried")
    for topic, stream in heard.streams.items():
        groups = TOPICS[topic].groups
        check.count += len(stream.told)
        for event_id, at_ms in stream.told.items():
            if trace.leads_to_a_change(event_id):
                continue
            buried = {letter.group for letter in heard.letters if (letter.topic, letter.event_id) == (topic, event_id)}
            if not groups or set(groups) - buried:
                until_ms = at_ms + world.rules.grace_ms if groups else 0
                check.offend(f"{event_id or 'an event without id'} in {topic} leads to no committed change", until_ms)
    return check


def _marked_is_published(world: World, heard: Heard) -> Check:
    check = Check("I10", "every event marked as published, and too young to be trimmed, is in its stream")
    for service, events in world.outboxes.items():
        for event in events:
            if not event.published:
                continue
            stream = heard.streams.get(event.topic)
            if stream is None:
                check.expect(
                    False, f"{event.id} of {service} is marked as published in {event.topic}, which is no topic"
                )
            elif stream.whole_from_ms is not None and event.stored_ms >= stream.whole_from_ms + MARGIN_MS:
                told = f"{event.id} of {service} is marked as published and not in {event.topic}"
                check.expect(event.id in stream.told, told)
    return check


def _dead_letters(heard: Heard, trace: _Trace) -> Check:
    check = Check("I10", "no event of ours is among the dead letters")
    for letter in heard.letters:
        told = f"{letter.topic}.dlq.{letter.group} {letter.position}: {letter.event_id}: {letter.error}"
        check.expect(not trace.leads_to_a_change(letter.event_id), told)
    return check
