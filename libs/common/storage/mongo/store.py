"""Documents in MongoDB: one database per service, reached by motor or by pymongo's own asyncio client.

Each document carries its own events until a broker has confirmed them (`collection.py` has the layout), so state and
events are one atomic step without a transaction. A published event moves to the collection `outbox_published`: a room
that is written a million times stays small, and a broker that lost what it had can be told again for a day. What waits
in one document is bounded; beyond that its changes that tell something are refused until the broker is back.
`docs/adr/0006-motor-and-its-successor.md` says why two drivers, and why like this.
"""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from libs.common.clock import Clock
from libs.common.errors import ConfigError
from libs.common.messaging.ports import Message
from libs.common.storage.mongo.collection import MongoCollection, message_of
from libs.common.storage.mongo.connection import Connection, Document
from libs.common.storage.ports import Collection

BACKLOG_DOCUMENTS_MAX = 10_000
"""Documents whose waiting events are counted: beyond that, a long backlog is a long backlog."""

_PUBLISHED = "outbox_published"


class MongoStore:
    """A `Store` in the database `<prefix>_<service>` of `mongodb://HOST/PREFIX`; without a prefix, `stagedoor`."""

    def __init__(self, url: str, service: str, clock: Clock, driver: str) -> None:
        prefix = urlsplit(url).path.strip("/") or "stagedoor"
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", prefix):
            raise ConfigError("STORE_URL: what follows the host is a prefix of letters, digits, - and _, or nothing")
        self.database = f"{prefix}_{service}"
        self._clock = clock
        self._connection = Connection(url, self.database, f"stagedoor-{service}", driver)
        self._collections: dict[str, MongoCollection] = {}

    def collection(self, declared: Collection[Any]) -> MongoCollection:
        return self._collections.setdefault(declared.name, MongoCollection(self._connection, declared, self._clock))

    async def start(self) -> None:
        indexes = {name: collection.indexes for name, collection in self._collections.items()}
        await self._connection.open({**indexes, _PUBLISHED: [{"key": {"stored_ms": 1}, "name": "by_stored_ms"}]})

    async def stop(self) -> None:
        await self._connection.close()

    async def ping(self) -> None:
        async with self._connection.operation() as database:
            await database.command("ping")

    async def unpublished(self, stored_before_ms: int, limit: int) -> list[Message]:
        # Every document that waits has an event at least, so the oldest `limit` documents hold the oldest events.
        events = _events_where({"$lt": ["$$this.stored_ms", stored_before_ms]})
        found = await self._everywhere(
            [*_waiting_longest(limit), *events, {"$sort": {"stored_ms": 1}}, {"$limit": limit}]
        )
        found.sort(key=lambda event: int(event["stored_ms"]))
        return [message_of(event) for event in found[:limit]]

    async def mark_published(self, event_ids: Sequence[str]) -> None:
        # Copied first, then taken out: a crash between the two leaves an event that is published and marked again.
        for name, ids in _by_collection(event_ids).items():
            documents = {"_id": {"$in": list({_document(event_id) for event_id in ids})}}
            events = _events_where({"$in": ["$$this._id", ids]})
            await self._connection.aggregate(name, [{"$match": documents}, *events, {"$merge": {"into": _PUBLISHED}}])
            async with self._connection.operation() as database:
                await database[name].update_many(documents, {"$pull": {"outbox": {"_id": {"$in": ids}}}})

    async def published_since(self, stored_from_ms: int, after: str, limit: int) -> list[Message]:
        async with self._connection.operation() as database:
            wanted = {"_id": {"$gt": after}, "stored_ms": {"$gte": stored_from_ms}}
            found = await database[_PUBLISHED].find(wanted, sort=[("_id", 1)], limit=limit).to_list(limit)
            return [message_of(event) for event in found]

    async def purge_published(self, stored_before_ms: int, limit: int) -> int:
        async with self._connection.operation() as database:
            published = database[_PUBLISHED]
            old = await published.find({"stored_ms": {"$lt": stored_before_ms}}, {"_id": 1}, limit=limit).to_list(limit)
            gone = await published.delete_many({"_id": {"$in": [event["_id"] for event in old]}})
            return gone.deleted_count

    async def outbox_backlog(self) -> tuple[int, int | None]:
        count, oldest_ms = {"$sum": {"$size": "$outbox"}}, {"$min": {"$min": "$outbox.stored_ms"}}
        total: Document = {"$group": {"_id": None, "count": count, "oldest_ms": oldest_ms}}
        found = await self._everywhere([*_waiting_longest(BACKLOG_DOCUMENTS_MAX), total])
        return sum(each["count"] for each in found), min((each["oldest_ms"] for each in found), default=None)

    async def _everywhere(self, steps: list[Document]) -> list[Document]:
        """What a pipeline finds in all collections."""
        return [found for name in self._collections for found in await self._connection.aggregate(name, steps)]


def _waiting_longest(limit: int) -> list[Document]:
    """Steps that find the documents with the oldest events. Not by a time: with one, MongoDB would sort all that wait
    instead of following the index from its beginning."""
    return [{"$match": {"outbox.stored_ms": {"$exists": True}}}, {"$sort": {"outbox.stored_ms": 1}}, {"$limit": limit}]


def _events_where(condition: Document) -> list[Document]:
    """Steps that make of documents the events in their outboxes that meet a condition."""
    events = {"$filter": {"input": "$outbox", "cond": condition}}
    return [{"$project": {"outbox": events}}, {"$unwind": "$outbox"}, {"$replaceRoot": {"newRoot": "$outbox"}}]


def _by_collection(event_ids: Sequence[str]) -> dict[str, list[str]]:
    """Event ids are `<collection>/<document>/<version>/<index>`."""
    found: dict[str, list[str]] = {}
    for event_id in event_ids:
        found.setdefault(event_id.partition("/")[0], []).append(event_id)
    return found


def _document(event_id: str) -> str:
    return event_id.partition("/")[2].rsplit("/", 2)[0]
