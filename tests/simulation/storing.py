"""The stores: one shared truth per service, which sees every commit, and each instance's own faulty way to it.

What can go wrong on the way: the call is refused, it is slow, or its reply is lost after the commit, which the caller
cannot tell from a refusal.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from libs.common.clock import Clock
from libs.common.errors import DependencyDown
from libs.common.messaging.ports import Message
from libs.common.storage.memory import _COMPARE, MemoryCollection, MemoryStore
from libs.common.storage.ports import Body, Collection, Versioned, Where
from tests.simulation.faults import Faults
from tests.simulation.instances import Instance
from tests.simulation.points import BEFORE_MARK, reached

SLOW_S = (0.05, 4.0)


@dataclass(frozen=True, slots=True)
class Commit:
    """One write that happened."""

    service: str
    collection: str
    id: str
    before: Body | None
    after: Body
    events: Sequence[Message]


class Truth(MemoryStore):
    """The documents of one service. `seen` is told of every commit, in order."""

    def __init__(self, clock: Clock, service: str, seen: Callable[[Commit], None]) -> None:
        super().__init__(clock)
        self.service = service
        self.seen = seen

    def collection(self, declared: Collection[Any]) -> "TrueCollection":
        found = self._collections.get(declared.name)
        if found is None:
            found = self._collections[declared.name] = TrueCollection(self, declared)
        assert isinstance(found, TrueCollection)
        return found

    def bodies(self, collection: str) -> dict[str, Body]:
        """The documents of a collection as they stand, to be read only."""
        found = self._collections.get(collection)
        return {} if found is None else {id_: body for id_, (_, body) in found._documents.items()}


class TrueCollection(MemoryCollection):
    """A collection that tells of its commits."""

    def __init__(self, truth: Truth, declared: Collection[Any]) -> None:
        super().__init__(truth, declared)
        self._truth = truth
        self._last: dict[str, Body] = {}

    async def swap(self, id_: str, expected: int, body: Body, events: Sequence[Message]) -> None:
        await super().swap(id_, expected, body, events)
        _, stored = self._documents[id_]
        before, self._last[id_] = self._last.get(id_) if expected else None, stored
        self._truth.seen(Commit(self._truth.service, self._declared.name, id_, before, stored, events))

    def _matching(self, where: Sequence[Where]) -> list[Versioned]:
        tests = [(condition.field, _COMPARE[condition.op], condition.value) for condition in where]
        found = []
        for id_, (version, body) in self._documents.items():
            for field, compare, wanted in tests:
                value = body.get(field)
                if value is None or not compare(value, wanted):
                    break
            else:
                found.append(Versioned(id_, version, body))
        return found


class StoreDoor:
    """A `Store`, as one instance reaches it."""

    def __init__(
        self, truth: Truth, instance: Instance, faults: Faults, die_at: Callable[[Instance, str], None]
    ) -> None:
        self._truth = truth
        self._instance = instance
        self._faults = faults
        self._die_at = die_at

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def ping(self) -> None:
        await self._instance.passes()

    def collection(self, declared: Collection[Any]) -> "CollectionDoor":
        return CollectionDoor(self._truth.collection(declared), declared.name, self)

    async def enter(self, what: str) -> None:
        """Every call comes through here first. Raises DependencyDown."""
        if self._instance.is_held_up:
            await self._instance.passes()
        if self._faults.calm.is_set():
            return
        if self._faults.strikes("store_slow", what):
            await self._instance.clock.sleep(self._faults.seconds("store_slow", *SLOW_S))
        if self._faults.strikes("store_refused", what):
            raise DependencyDown("The store does not answer.", retry_after_s=1)

    async def left(self, what: str, point: str | None) -> None:
        """A write has been committed; its caller may die of it, or not hear of it."""
        if point is not None:
            self._die_at(self._instance, point)
        await self._instance.passes()
        if self._faults.strikes("store_reply_lost", what):
            raise DependencyDown("The store does not answer.", retry_after_s=1)

    async def unpublished(self, stored_before_ms: int, limit: int) -> list[Message]:
        await self.enter("outbox")
        return await self._truth.unpublished(stored_before_ms, limit)

    async def mark_published(self, event_ids: Sequence[str]) -> None:
        self._die_at(self._instance, BEFORE_MARK)
        await self.enter("outbox")
        await self._truth.mark_published(event_ids)

    async def published_since(self, stored_from_ms: int, after: str, limit: int) -> list[Message]:
        await self.enter("outbox")
        return await self._truth.published_since(stored_from_ms, after, limit)

    async def purge_published(self, stored_before_ms: int, limit: int) -> int:
        await self.enter("outbox")
        return await self._truth.purge_published(stored_before_ms, limit)

    async def outbox_backlog(self) -> tuple[int, int | None]:
        await self._instance.passes()
        return await self._truth.outbox_backlog()


class CollectionDoor:
    """A `StoredCollection`, as one instance reaches it."""

    def __init__(self, true: TrueCollection, name: str, store: StoreDoor) -> None:
        self._true = true
        self._name = name
        self._store = store

    async def load(self, id_: str) -> Versioned | None:
        await self._store.enter(self._name)
        return await self._true.load(id_)

    async def swap(self, id_: str, expected: int, body: Body, events: Sequence[Message]) -> None:
        await self._store.enter(self._name)
        before = self._true._documents.get(id_)
        await self._true.swap(id_, expected, body, events)
        point = reached(self._name, before[1] if before else None, body, [event.type for event in events])
        await self._store.left(f"{self._name}/{id_}", point)

    async def find(self, where: Sequence[Where], order_by: str | None, descending: bool, limit: int) -> list[Versioned]:
        await self._store.enter(self._name)
        return await self._true.find(where, order_by, descending, limit)

    async def count(self, where: Sequence[Where]) -> int:
        await self._store.enter(self._name)
        return await self._true.count(where)

    async def purge(self, where: Sequence[Where], limit: int) -> int:
        await self._store.enter(self._name)
        return await self._true.purge(where, limit)
