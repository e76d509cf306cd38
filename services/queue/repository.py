"""The queue's documents: rooms, sessions (`room:sequence`) and the keys of joins.

Counting open visits every second stays cheap however many old ones there are, because `room, state, until_ms` leads
straight to those that are open; questions about ranges of sequences go by `room, sequence`.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import islice
from typing import TypeVar

from libs.common.metrics import CommonMetrics
from libs.common.storage.folding import Documents, OnStored
from libs.common.storage.ports import AlreadyExists, Body, Collection, Decide, Store, Where
from services.queue.domain.joins import JoinKey
from services.queue.domain.line import Offer, Returning, Room
from services.queue.domain.visits import Session

R = TypeVar("R")

SEQUENCES_PER_SEARCH_MAX = 500


def _room_body(room: Room) -> Body:
    # By hand, because `asdict` copies every offer and every returning one at each of the many writes of a room.
    body = {name: getattr(room, name) for name in Room.__slots__}
    body["offers"] = [[offer.upto, offer.at_ms] for offer in room.offers]
    body["returning"] = [[entry.sequence, entry.round, entry.offered_ms] for entry in room.returning]
    return body


def _room(body: Body) -> Room:
    plain = Room(**{**body, "offers": (), "returning": ()})
    return replace(
        plain,
        offers=tuple(Offer(*offer) for offer in body["offers"]),
        returning=tuple(Returning(*entry) for entry in body["returning"]),
    )


ROOMS: Collection[Room] = Collection("rooms", encode=_room_body, decode=_room, kept_count_max=256)
SESSIONS: Collection[Session] = Collection(
    "sessions",
    encode=asdict,
    decode=lambda body: Session(**body),
    indexes=(("room", "state", "until_ms"), ("room", "sequence")),
)
JOINS: Collection[JoinKey] = Collection(
    "joins", encode=asdict, decode=lambda body: JoinKey(**body), indexes=(("at_ms",),)
)


class RoomRepository:
    """`services.queue.ports.Rooms` on any store."""

    def __init__(self, store: Store, metrics: CommonMetrics, on_stored: OnStored) -> None:
        self._rooms = Documents(store, ROOMS, "queue", metrics, on_stored)

    async def get(self, room: int) -> Room | None:
        return await self._rooms.get(str(room))

    async def create(self, room: Room) -> None:
        try:
            await self._rooms.insert(str(room.id), room)
        except AlreadyExists:
            return

    async def update(self, room: int, decide: Decide[Room, R]) -> R:
        return await self._rooms.update(str(room), decide)


class SessionRepository:
    """`services.queue.ports.Sessions` on any store."""

    def __init__(self, store: Store, metrics: CommonMetrics, on_stored: OnStored) -> None:
        self._sessions = Documents(store, SESSIONS, "queue", metrics, on_stored)

    async def get(self, room: int, sequence: int) -> Session | None:
        return await self._sessions.get(_id(room, sequence))

    async def insert(self, session: Session, events: Sequence[object]) -> bool:
        try:
            await self._sessions.insert(_id(session.room, session.sequence), session, events)
        except AlreadyExists:
            return False
        return True

    async def update(self, room: int, sequence: int, decide: Decide[Session, R]) -> R:
        return await self._sessions.update(_id(room, sequence), decide)

    async def count_between(self, room: int, after: int, upto: int) -> int:
        return await self._sessions.count(*_range(room, after, upto)) if after < upto else 0

    async def between(self, room: int, after: int, upto: int, limit: int) -> list[Session]:
        if after >= upto:
            return []
        return await self._sessions.find(*_range(room, after, upto), order_by="sequence", limit=limit)

    async def of(self, room: int, sequences: Sequence[int]) -> list[Session]:
        found: list[Session] = []
        rest = iter(sequences)
        while chunk := list(islice(rest, SEQUENCES_PER_SEARCH_MAX)):
            found += await self._sessions.find(
                Where("room", "=", room), Where("sequence", "in", chunk), limit=len(chunk)
            )
        return found

    async def count_open(self, room: int, until_after_ms: int) -> int:
        return await self._sessions.count(
            Where("room", "=", room), Where("state", "=", "open"), Where("until_ms", ">", until_after_ms)
        )

    async def overdue(self, room: int, until_ms: int, limit: int) -> list[Session]:
        return await self._sessions.find(
            Where("room", "=", room),
            Where("state", "=", "open"),
            Where("until_ms", "<=", until_ms),
            order_by="until_ms",
            limit=limit,
        )

    async def purge(self, room: int, upto: int, limit: int) -> int:
        return await self._sessions.purge(Where("room", "=", room), Where("sequence", "<=", upto), limit=limit)


class JoinKeyRepository:
    """`services.queue.ports.JoinKeys` on any store."""

    def __init__(self, store: Store, metrics: CommonMetrics, on_stored: OnStored) -> None:
        self._joins = Documents(store, JOINS, "queue", metrics, on_stored)

    async def update(self, id_: str, decide: Decide[JoinKey, R]) -> R:
        return await self._joins.update(id_, decide)

    async def purge(self, before_ms: int, limit: int) -> int:
        return await self._joins.purge(Where("at_ms", "<", before_ms), limit=limit)


def _range(room: int, after: int, upto: int) -> tuple[Where, Where, Where]:
    return Where("room", "=", room), Where("sequence", ">", after), Where("sequence", "<=", upto)


def _id(room: int, sequence: int) -> str:
    return f"{room}:{sequence}"
