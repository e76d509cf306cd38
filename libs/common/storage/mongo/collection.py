"""One collection in MongoDB. A document is `{_id, v, body, keys, outbox}`:

v       its version; a compare-and-set is an update of {_id, v}
body    what the room stores
keys    the body's declared fields, nulls left out: conditions, orders and the sparse indexes look only here, so a
        document without a field is not found by it and holds no unique key
outbox  its events that no broker has confirmed: appended by operator in the step that writes the body, taken out
        by operator without touching `v`, so that a mark never makes a decision lose
"""

from collections.abc import Mapping, Sequence
from typing import Any

from libs.common.clock import Clock
from libs.common.errors import DependencyDown
from libs.common.messaging.ports import Message
from libs.common.storage.mongo.connection import UNIQUE_PREFIX, Connection, Document
from libs.common.storage.ports import Body, Collection, Stale, Versioned, Where

OUTBOX_COUNT_MAX = 1_000
"""Events that may wait in a document before one more change: with those of the largest fold, a MB of the 16 that a
document may have, and all of them confirmed again every 0.2 s."""

_SEEN = {"v": 1, "body": 1}
_HAS_ROOM = {f"outbox.{OUTBOX_COUNT_MAX - 1}": {"$exists": False}}
_NOTHING_WAITS = {"outbox.0": {"$exists": False}}
_OPERATORS = {"=": "$eq", "in": "$in", "<=": "$lte", ">=": "$gte", "<": "$lt", ">": "$gt"}


class MongoCollection:
    """The stored side of a `Collection`."""

    def __init__(self, connection: Connection, declared: Collection[Any], clock: Clock) -> None:
        self._connection = connection
        self._declared = declared
        self._name = declared.name
        self._fields = declared.fields
        self._clock = clock

    @property
    def indexes(self) -> list[Document]:
        """All sparse, or partial in the outbox's case: a document that is not looked for costs no entry."""
        declared = self._declared
        unique = [
            {"key": {f"keys.{field}": 1}, "name": UNIQUE_PREFIX + field, "unique": True, "sparse": True}
            for field in declared.unique
        ]
        others = [
            {"key": {f"keys.{field}": 1 for field in fields}, "name": f"by_{'_'.join(fields)}", "sparse": True}
            for fields in declared.indexes
        ]
        waiting = {
            "key": {"outbox.stored_ms": 1},
            "name": "waiting",
            "partialFilterExpression": {"outbox.stored_ms": {"$exists": True}},
        }
        return [*unique, *others, waiting]

    async def load(self, id_: str) -> Versioned | None:
        async with self._connection.operation() as database:
            found = await database[self._name].find_one({"_id": _scalar(id_)}, _SEEN)
        return None if found is None else _versioned(found)

    async def swap(self, id_: str, expected: int, body: Body, events: Sequence[Message]) -> None:
        stored_ms = self._clock.now_ms()
        waiting = [_stored(event, stored_ms) for event in events]
        fields = {"v": expected + 1, "body": body, "keys": self._keys(body)}
        if expected > 0:
            await self._update({"_id": _scalar(id_), "v": expected}, fields, waiting)
            return
        async with self._connection.operation() as database:
            await database[self._name].insert_one({"_id": _scalar(id_), **fields, "outbox": waiting})

    async def _update(self, wanted: Document, fields: Document, waiting: list[Document]) -> None:
        change: Document = {"$set": fields}
        async with self._connection.operation() as database:
            documents = database[self._name]
            if waiting:
                change["$push"] = {"outbox": {"$each": waiting}}
                changed = await documents.update_one(wanted | _HAS_ROOM, change)
            else:
                changed = await documents.update_one(wanted, change)
            if changed.matched_count == 1:
                return
            if waiting and await documents.find_one(wanted, {"_id": 1}) is not None:
                raise DependencyDown("Too many events of this wait for the broker.", retry_after_s=1)
            raise Stale

    async def find(self, where: Sequence[Where], order_by: str | None, descending: bool, limit: int) -> list[Versioned]:
        if limit < 1:  # MongoDB takes 0 for no limit at all
            return []
        matching = self._matching(where, order_by)
        order = [(f"keys.{order_by}", -1 if descending else 1)] if order_by is not None else None
        async with self._connection.operation() as database:
            documents = database[self._name]
            if limit == 1:
                one = await documents.find_one(matching, _SEEN, sort=order)
                found = [] if one is None else [one]
            else:
                found = await documents.find(matching, _SEEN, sort=order, limit=limit, batch_size=limit).to_list(limit)
        return [_versioned(document) for document in found]

    async def count(self, where: Sequence[Where]) -> int:
        async with self._connection.operation() as database:
            return await database[self._name].count_documents(self._matching(where, None))

    async def purge(self, where: Sequence[Where], limit: int) -> int:
        if limit < 1:
            return 0
        # A document goes with its events: what waits for the broker keeps it until a later bite.
        matching = self._matching(where, None) | _NOTHING_WAITS
        async with self._connection.operation() as database:
            documents = database[self._name]
            found = await documents.find(matching, {"_id": 1}, limit=limit).to_list(limit)
            ids = {"_id": {"$in": [document["_id"] for document in found]}}
            return (await documents.delete_many(matching | ids)).deleted_count

    def _keys(self, body: Body) -> Document:
        return {field: _scalar(body[field]) for field in self._fields if body.get(field) is not None}

    def _matching(self, where: Sequence[Where], order_by: str | None) -> Document:
        for field in [each.field for each in where] + [order_by] * (order_by is not None):
            if field not in self._fields:
                raise ValueError(f"{self._name}: {field} is not a declared index")
        conditions: list[Document] = [{f"keys.{each.field}": {_OPERATORS[each.op]: _operand(each)}} for each in where]
        if order_by is not None:
            conditions.append({f"keys.{order_by}": {"$exists": True}})
        return {"$and": conditions} if conditions else {}


def message_of(stored: Document) -> Message:
    """The message that stands in an outbox."""
    fields = {name: stored[name] for name in ("topic", "key", "type", "source", "time_ms", "traceparent")}
    return Message(id=stored["_id"], data=stored["data"].encode(), **fields)


def _stored(event: Message, stored_ms: int) -> Document:
    # The data as text, so that a person can read what waits.
    return {
        "_id": event.id,
        "topic": event.topic,
        "key": event.key,
        "type": event.type,
        "source": event.source,
        "time_ms": event.time_ms,
        "data": event.data.decode(),
        "traceparent": event.traceparent,
        "stored_ms": stored_ms,
    }


def _operand(condition: Where) -> Any:
    return [_scalar(each) for each in condition.value] if condition.op == "in" else _scalar(condition.value)


def _scalar(value: object) -> str | int:
    """The value itself. Anything else could be read as an operator (`{"$ne": null}`) or spread over an index."""
    if not isinstance(value, str | int):
        raise TypeError(f"{value!r} is neither a string nor a whole number")
    return value


def _versioned(document: Mapping[str, Any]) -> Versioned:
    return Versioned(document["_id"], document["v"], document["body"])
