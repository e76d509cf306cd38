"""Documents in memory: for unit tests, the one-loop system and the simulation. Nothing outlives the object.

Every call gives the loop a turn before it acts, so that races which exist in a real store exist here too.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from libs.common.clock import Clock
from libs.common.messaging.ports import Message
from libs.common.storage.ports import AlreadyExists, Body, Collection, Stale, Versioned, Where

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda value, wanted: value == wanted,
    "in": lambda value, wanted: value in wanted,
    "<=": lambda value, wanted: value <= wanted,
    ">=": lambda value, wanted: value >= wanted,
    "<": lambda value, wanted: value < wanted,
    ">": lambda value, wanted: value > wanted,
}


class MemoryStore:
    """A `Store` whose documents and outbox are dictionaries."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.outbox: dict[str, tuple[Message, int]] = {}
        self.published: dict[str, tuple[Message, int]] = {}
        self._collections: dict[str, MemoryCollection] = {}

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def ping(self) -> None: ...

    def collection(self, declared: Collection[Any]) -> "MemoryCollection":
        return self._collections.setdefault(declared.name, MemoryCollection(self, declared))

    async def unpublished(self, stored_before_ms: int, limit: int) -> list[Message]:
        await asyncio.sleep(0)
        waiting = [message for message, stored_ms in self.outbox.values() if stored_ms < stored_before_ms]
        return waiting[:limit]

    async def mark_published(self, event_ids: Sequence[str]) -> None:
        await asyncio.sleep(0)
        for event_id in event_ids:
            entry = self.outbox.pop(event_id, None)
            if entry is not None:
                self.published[event_id] = entry

    async def published_since(self, stored_from_ms: int, after: str, limit: int) -> list[Message]:
        await asyncio.sleep(0)
        found = [message for message, stored_ms in self.published.values() if stored_ms >= stored_from_ms]
        return sorted((each for each in found if each.id > after), key=lambda each: each.id)[:limit]

    async def purge_published(self, stored_before_ms: int, limit: int) -> int:
        gone = [id_ for id_, (_, stored_ms) in self.published.items() if stored_ms < stored_before_ms][:limit]
        for id_ in gone:
            del self.published[id_]
        return len(gone)

    async def outbox_backlog(self) -> tuple[int, int | None]:
        return len(self.outbox), min((stored for _, stored in self.outbox.values()), default=None)


class MemoryCollection:
    """One collection. Bodies are written down as JSON, as a store would, and read back from that: nobody holds a live
    reference to what is stored, and what is not JSON is refused."""

    def __init__(self, store: MemoryStore, declared: Collection[Any]) -> None:
        self._store = store
        self._declared = declared
        self._documents: dict[str, tuple[int, Body]] = {}
        self._written: dict[str, bytes] = {}
        self._taken: dict[str, dict[Any, str]] = {field: {} for field in declared.unique}

    async def load(self, id_: str) -> Versioned | None:
        await asyncio.sleep(0)
        found = self._documents.get(id_)
        return None if found is None else self._copied(Versioned(id_, *found))

    async def swap(self, id_: str, expected: int, body: Body, events: Sequence[Message]) -> None:
        written = orjson.dumps(body)
        await asyncio.sleep(0)
        current = self._documents.get(id_)
        if expected == 0 and current is not None:
            raise AlreadyExists("id")
        if (current[0] if current else 0) != expected:
            raise Stale
        for field, taken in self._taken.items():
            if body.get(field) is not None and taken.get(body[field], id_) != id_:
                raise AlreadyExists(field)
        self._release_keys(id_)
        for field, taken in self._taken.items():
            if body.get(field) is not None:
                taken[body[field]] = id_
        self._documents[id_] = (expected + 1, orjson.loads(written))
        self._written[id_] = written
        now_ms = self._store.clock.now_ms()
        self._store.outbox.update((message.id, (message, now_ms)) for message in events)

    async def find(self, where: Sequence[Where], order_by: str | None, descending: bool, limit: int) -> list[Versioned]:
        await asyncio.sleep(0)
        found = self._matching(where)
        if order_by is not None:
            found = [item for item in found if item.body.get(order_by) is not None]
            found.sort(key=lambda item: item.body[order_by], reverse=descending)
        return [self._copied(item) for item in found[:limit]]

    async def count(self, where: Sequence[Where]) -> int:
        await asyncio.sleep(0)
        return len(self._matching(where))

    async def purge(self, where: Sequence[Where], limit: int) -> int:
        await asyncio.sleep(0)
        gone = self._matching(where)[:limit]
        for item in gone:
            self._release_keys(item.id)
            del self._documents[item.id], self._written[item.id]
        return len(gone)

    def _copied(self, stored: Versioned) -> Versioned:
        return Versioned(stored.id, stored.version, orjson.loads(self._written[stored.id]))

    def _release_keys(self, id_: str) -> None:
        _, body = self._documents.get(id_, (0, {}))
        for field, taken in self._taken.items():
            taken.pop(body.get(field), None)

    def _matching(self, where: Sequence[Where]) -> list[Versioned]:
        for condition in where:
            if condition.field not in self._declared.fields:
                raise ValueError(f"{self._declared.name}: {condition.field} is not a declared index")
        return [
            Versioned(id_, version, body)
            for id_, (version, body) in self._documents.items()
            if all(_matches(body, condition) for condition in where)
        ]


def _matches(body: Body, condition: Where) -> bool:
    value = body.get(condition.field)
    return value is not None and _COMPARE[condition.op](value, condition.value)
