"""Documents: get, insert, update, find, with updates of one document folded.

Why folding: a line that everyone joins, a block of seats that everyone wants and a wallet that is hit twice are all one
document that many change at once. One after another, each would pay for its own read, write and disk flush; racing,
all but one would lose their compare-and-set and try again. So the updates of one document that wait at the same time
are taken together: read once, decide one after another, each on the state the one before left, write once. Every caller
gets its own result or error. Folding is within a process; between processes the compare-and-set decides.

Nothing is told to anyone before the write they depend on is committed. That holds for refusals too: "the seat is taken"
may rest on a decision of the same fold that never reached the store.

Where a collection says so, the states written last are kept in memory, and the next fold decides on one without reading
it. That is a guess: a write that goes through proves it right, one that loses its compare-and-set proves it wrong, and
a fold that writes nothing is only believed after the store has named the same version.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from libs.common import trace
from libs.common.errors import Problem
from libs.common.events.catalogue import to_message
from libs.common.messaging.ports import Message
from libs.common.metrics import CommonMetrics
from libs.common.storage.ports import (
    AlreadyExists,
    Collection,
    Contended,
    Decide,
    Decision,
    Stale,
    Store,
    StoredCollection,
    Where,
)

T = TypeVar("T")
R = TypeVar("R")

FOLD_COUNT_MAX = 512
"""Updates decided on one read: bounds how long the event loop is busy with one document."""

WAITING_COUNT_MAX = 8192
"""Updates of one document that may wait; more are refused at once."""

SWAP_TRIES_MAX = 16
"""Compare-and-sets one fold may lose before its callers are told to come back."""

OnStored = Callable[[Sequence[Message]], None]


@dataclass(slots=True)
class _Waiting:
    """One caller's update: what to decide, and where to put the outcome."""

    decide: Callable[[Any], Decision[Any, Any]]
    outcome: asyncio.Future[Any]
    traceparent: str


@dataclass(slots=True)
class _Fold(Generic[T]):
    """What came of deciding a batch on one state: the final state, its events, and each caller's result or error."""

    state: T | None
    changed: bool
    events: list[tuple[object, str]]
    outcomes: list[tuple[_Waiting, Any, BaseException | None]]


class Documents(Generic[T]):
    """One collection of a store, in the room's own types."""

    def __init__(
        self, store: Store, declared: Collection[T], source: str, metrics: CommonMetrics, on_stored: OnStored
    ) -> None:
        self._declared = declared
        self._stored: StoredCollection = store.collection(declared)
        self._source = f"/stagedoor/{source}"
        self._on_stored = on_stored
        self._lines: dict[str, deque[_Waiting]] = {}
        self._folders: set[asyncio.Task[None]] = set()
        self._kept: OrderedDict[str, tuple[int, T]] = OrderedDict()
        self._folded = metrics.updates_per_write.labels(declared.name)
        self._lost = metrics.swaps_lost.labels(declared.name)

    async def get(self, id_: str) -> T | None:
        """The state under an id as last committed, or None."""
        found = await self._stored.load(id_)
        return None if found is None else self._declared.decode(found.body)

    async def insert(self, id_: str, state: T, events: Sequence[object] = ()) -> None:
        """Store a new document and its events. Raises AlreadyExists for its id or a declared unique key."""
        traced = [(event, trace.current.get()) for event in events]
        messages = self._messages(id_, 1, traced)
        await self._stored.swap(id_, 0, self._declared.encode(state), messages)
        self._keep(id_, 1, state)
        self._tell(messages)

    async def update(self, id_: str, decide: Decide[T, R]) -> R:
        """Apply a decision to the document and return its result; what `decide` raises is raised here.

        Raises Contended when too many wait, AlreadyExists when the new state takes a unique key that is held.
        """
        line = self._lines.get(id_)
        if line is not None and len(line) >= WAITING_COUNT_MAX:
            raise Contended("Too many updates of one document are waiting.", retry_after_s=1)
        waiting = _Waiting(decide, asyncio.get_running_loop().create_future(), trace.current.get())
        if line is not None:
            line.append(waiting)
        else:
            self._lines[id_] = deque([waiting])
            folder = asyncio.create_task(self._fold_line(id_))
            self._folders.add(folder)
            folder.add_done_callback(self._folders.discard)
        try:
            result: R = await waiting.outcome
        finally:
            # A refusal leads to this frame, and from here back to itself: thousands of them would be left to the
            # garbage collector, at more than the price of deciding them.
            del waiting
        return result

    async def find(self, *where: Where, order_by: str | None = None, descending: bool = False, limit: int) -> list[T]:
        """At most `limit` documents that match all conditions."""
        found = await self._stored.find(where, order_by, descending, limit)
        return [self._declared.decode(item.body) for item in found]

    async def count(self, *where: Where) -> int:
        """How many documents match all conditions."""
        return await self._stored.count(where)

    async def purge(self, *where: Where, limit: int) -> int:
        """Delete at most `limit` matching documents: for what has expired, never for what is true."""
        return await self._stored.purge(where, limit)

    async def _fold_line(self, id_: str) -> None:
        """Serve everyone who waits for one document, batch after batch, until nobody does."""
        line = self._lines[id_]
        try:
            while line:
                batch = [line.popleft() for _ in range(min(len(line), FOLD_COUNT_MAX))]
                try:
                    await self._settle(id_, batch)
                except asyncio.CancelledError:
                    _fail(batch, Contended("The service is stopping.", retry_after_s=1))
                    raise
                except Exception as error:  # noqa: BLE001  a failed read or write is every waiting caller's own error
                    _fail(batch, error)
        finally:
            del self._lines[id_]
            _fail(line, Contended("The service is stopping.", retry_after_s=1))

    async def _settle(self, id_: str, batch: Sequence[_Waiting]) -> None:
        guess = self._kept.pop(id_, None)
        for _ in range(SWAP_TRIES_MAX):
            version, state = guess or await self._read(id_)
            fold = _decide_all(state, batch)
            try:
                if fold.changed or fold.events:
                    await self._write(id_, version, fold, len(batch))
                elif guess is not None:
                    await self._check(id_, guess)
            except Stale:
                self._lost.inc()
                guess = None
                continue
            except AlreadyExists:
                if len(batch) == 1:
                    raise
                # One of them wants a key that is held: the others must not pay for it.
                await self._settle_one_by_one(id_, batch)
                return
            _deliver(fold.outcomes)
            return
        raise Contended("This document changes too fast; try again.", retry_after_s=1)

    async def _read(self, id_: str) -> tuple[int, T | None]:
        found = await self._stored.load(id_)
        return (0, None) if found is None else (found.version, self._declared.decode(found.body))

    async def _check(self, id_: str, guess: tuple[int, T]) -> None:
        """Raises Stale when the store has another version."""
        found = await self._stored.load(id_)
        if found is None or found.version != guess[0]:
            raise Stale
        self._keep(id_, *guess)

    async def _write(self, id_: str, version: int, fold: _Fold[T], folded_count: int) -> None:
        """Store what a fold came to. Raises Stale, or AlreadyExists for a unique key."""
        if fold.state is None:
            raise ValueError(f"{self._declared.name}: a decision told events of a document that does not exist")
        messages = self._messages(id_, version + 1, fold.events)
        try:
            await self._stored.swap(id_, version, self._declared.encode(fold.state), messages)
        except AlreadyExists as clash:
            if clash.field == "id":  # somebody else made the document between our read and our write
                raise Stale from None
            raise
        self._keep(id_, version + 1, fold.state)
        self._folded.observe(folded_count)
        self._tell(messages)

    def _keep(self, id_: str, version: int, state: T) -> None:
        if self._declared.kept_count_max:
            self._kept[id_] = (version, state)
            if len(self._kept) > self._declared.kept_count_max:
                self._kept.popitem(last=False)

    async def _settle_one_by_one(self, id_: str, batch: Sequence[_Waiting]) -> None:
        for waiting in batch:
            try:
                await self._settle(id_, [waiting])
            except AlreadyExists as clash:
                _fail([waiting], clash)

    def _messages(self, id_: str, version: int, events: Sequence[tuple[object, str]]) -> list[Message]:
        # A version of a document is committed once, so these ids are unique and lead back to the change.
        return [
            to_message(event, f"{self._declared.name}/{id_}/{version}/{index}", self._source, traceparent)
            for index, (event, traceparent) in enumerate(events)
        ]

    def _tell(self, messages: Sequence[Message]) -> None:
        if messages:
            self._on_stored(messages)


def _decide_all(state: T | None, batch: Sequence[_Waiting]) -> _Fold[T]:
    fold: _Fold[T] = _Fold(state, changed=False, events=[], outcomes=[])
    for waiting in batch:
        if waiting.outcome.done():  # the caller hung up before anything was decided for it
            continue
        try:
            decision = waiting.decide(fold.state)
        except Exception as refusal:  # noqa: BLE001  a refusal is the caller's result, whatever its type
            if isinstance(refusal, Problem):  # an answer, not a fault: where it was decided would only tie it to us
                refusal.__traceback__ = None
            fold.outcomes.append((waiting, None, refusal))
            continue
        if decision.state is not None:
            fold.state, fold.changed = decision.state, True
        fold.events.extend((event, waiting.traceparent) for event in decision.events)
        fold.outcomes.append((waiting, decision.result, None))
    return fold


def _deliver(outcomes: Sequence[tuple[_Waiting, Any, BaseException | None]]) -> None:
    for waiting, result, refusal in outcomes:
        if waiting.outcome.done():
            continue
        if refusal is None:
            waiting.outcome.set_result(result)
        else:
            waiting.outcome.set_exception(refusal)


def _fail(batch: Sequence[_Waiting] | deque[_Waiting], error: Exception) -> None:
    _deliver([(waiting, None, error) for waiting in batch])
