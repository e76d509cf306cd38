"""What every Documents adapter must do. An adapter's tests subclass `DocumentsContract` and give it a store."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import pytest

from libs.common.errors import Problem
from libs.common.events.wallet import PaymentCompleted
from libs.common.messaging.ports import Message
from libs.common.metrics import CommonMetrics
from libs.common.storage.folding import Documents
from libs.common.storage.ports import AlreadyExists, Body, Collection, Decision, Store, Where


@dataclass(frozen=True, slots=True)
class Shelf:
    """A toy document: a counter with a unique label and two searchable fields."""

    label: str | None = None
    size: int = 0
    colour: str | None = None
    due_ms: int | None = None


def _encode(shelf: Shelf) -> Body:
    return {"label": shelf.label, "size": shelf.size, "colour": shelf.colour, "due_ms": shelf.due_ms}


SHELVES: Collection[Shelf] = Collection(
    "shelves",
    encode=_encode,
    decode=lambda body: Shelf(**body),
    unique=("label",),
    indexes=(("colour", "due_ms"),),
    kept_count_max=2,
)


class Full(Problem):
    status, code, title = 409, "FULL", "The shelf is full"


def grow(shelf: Shelf | None) -> Decision[Shelf, int]:
    """Add one, starting from nothing; the result is the new size."""
    grown = replace(shelf or Shelf(), size=(shelf.size if shelf else 0) + 1)
    return Decision(grown.size, grown, [_event(grown.size)])


def _event(number: int) -> PaymentCompleted:
    return PaymentCompleted(reservation="r", attempt=number, user=1, amount=1, at_ms=1)


class OpenStore(Protocol):
    """Opens a started store on the same data each time it is called within one test."""

    def __call__(self) -> AbstractAsyncContextManager[Store]: ...


class DocumentsContract:
    """Subclasses provide the fixture `open_store`."""

    @pytest.fixture
    def told(self) -> list[Message]:
        return []

    @pytest.fixture
    async def store(self, open_store: OpenStore) -> AsyncIterator[Store]:
        async with open_store() as store:
            yield store

    @pytest.fixture
    async def shelves(self, store: Store, told: list[Message]) -> Documents[Shelf]:
        return Documents(store, SHELVES, "test", CommonMetrics("test"), told.extend)

    async def test_an_inserted_document_is_read_back(self, shelves: Documents[Shelf]) -> None:
        await shelves.insert("a", Shelf("left", 3, "red", 10))
        assert await shelves.get("a") == Shelf("left", 3, "red", 10)
        assert await shelves.get("b") is None

    async def test_an_id_is_inserted_once(self, shelves: Documents[Shelf]) -> None:
        await shelves.insert("a", Shelf())
        with pytest.raises(AlreadyExists) as refused:
            await shelves.insert("a", Shelf(size=9))
        assert refused.value.field == "id"
        assert await shelves.get("a") == Shelf()

    async def test_a_unique_key_is_held_once_and_absent_keys_do_not_count(self, shelves: Documents[Shelf]) -> None:
        await shelves.insert("a", Shelf("left"))
        await shelves.insert("b", Shelf(None))
        await shelves.insert("c", Shelf(None))
        with pytest.raises(AlreadyExists) as refused:
            await shelves.insert("d", Shelf("left"))
        assert refused.value.field == "label"

    async def test_of_50_inserts_at_once_exactly_one_wins(self, shelves: Documents[Shelf]) -> None:
        outcomes = await asyncio.gather(
            *(shelves.insert("a", Shelf(size=number)) for number in range(50)), return_exceptions=True
        )
        assert outcomes.count(None) == 1
        assert sum(isinstance(outcome, AlreadyExists) for outcome in outcomes) == 49

    async def test_updates_of_one_document_at_once_all_count(self, shelves: Documents[Shelf]) -> None:
        sizes = await asyncio.gather(*(shelves.update("a", grow) for _ in range(300)))
        assert sorted(sizes) == list(range(1, 301))
        assert (await shelves.get("a") or Shelf()).size == 300

    async def test_updates_through_two_openings_all_count(self, store: Store, shelves: Documents[Shelf]) -> None:
        # A second Documents folds on its own, as a second process would: only the compare-and-set stands between them.
        other = Documents(store, SHELVES, "other", CommonMetrics("other"), lambda _: None)
        sizes = await asyncio.gather(*(side.update("a", grow) for _ in range(100) for side in (shelves, other)))
        assert sorted(sizes) == list(range(1, 201))

    async def test_a_held_key_fails_only_the_update_that_wants_it(self, shelves: Documents[Shelf]) -> None:
        await shelves.insert("holder", Shelf("left"))

        def take_label(shelf: Shelf | None) -> Decision[Shelf, int]:
            return Decision(0, replace(shelf or Shelf(), label="left"))

        decisions = [grow, grow, take_label, grow]
        outcomes = await asyncio.gather(*(shelves.update("a", each) for each in decisions), return_exceptions=True)
        assert isinstance(outcomes[2], AlreadyExists)
        assert [outcomes[0], outcomes[1], outcomes[3]] == [1, 2, 3]

    async def test_a_refusal_is_the_callers_own_and_changes_nothing(self, shelves: Documents[Shelf]) -> None:
        def grow_to_five(shelf: Shelf | None) -> Decision[Shelf, int]:
            if shelf and shelf.size >= 5:
                raise Full("There is no room left.")
            return grow(shelf)

        outcomes = await asyncio.gather(*(shelves.update("a", grow_to_five) for _ in range(20)), return_exceptions=True)
        assert sorted(outcome for outcome in outcomes if isinstance(outcome, int)) == [1, 2, 3, 4, 5]
        assert sum(isinstance(outcome, Full) for outcome in outcomes) == 15
        assert (await shelves.get("a") or Shelf()).size == 5

    async def test_a_refusal_never_rests_on_a_state_that_another_process_has_changed(
        self, store: Store, shelves: Documents[Shelf]
    ) -> None:
        def empty(shelf: Shelf | None) -> Decision[Shelf, int]:
            return Decision(0, replace(shelf or Shelf(), size=0))

        def grow_from_empty(shelf: Shelf | None) -> Decision[Shelf, int]:
            if shelf and shelf.size:
                raise Full("There is no room left.")
            return grow(shelf)

        other = Documents(store, SHELVES, "other", CommonMetrics("other"), lambda _: None)
        await shelves.update("a", grow_from_empty)
        await other.update("a", empty)
        assert await shelves.update("a", grow_from_empty) == 1
        with pytest.raises(Full):
            await other.update("a", grow_from_empty)

    async def test_an_update_that_changes_nothing_tells_nothing(
        self, shelves: Documents[Shelf], told: list[Message]
    ) -> None:
        result = await shelves.update("a", lambda shelf: Decision("nothing here" if shelf is None else "?"))
        assert (result, await shelves.get("a"), told) == ("nothing here", None, [])

    async def test_events_are_stored_with_the_change_and_told_after_it(
        self, store: Store, shelves: Documents[Shelf], told: list[Message]
    ) -> None:
        await shelves.update("a", grow)
        await shelves.insert("b", Shelf(), [_event(7)])
        stored = await store.unpublished(stored_before_ms=2**50, limit=10)
        assert sorted(message.id for message in stored) == ["shelves/a/1/0", "shelves/b/1/0"]
        assert sorted(message.id for message in told) == ["shelves/a/1/0", "shelves/b/1/0"]
        assert (await store.outbox_backlog())[0] == 2

    async def test_a_lost_insert_stores_no_event(self, store: Store, shelves: Documents[Shelf]) -> None:
        await shelves.insert("a", Shelf("left"))
        for id_ in ("a", "b"):
            with pytest.raises(AlreadyExists):
                await shelves.insert(id_, Shelf("left"), [_event(1)])
        assert await store.unpublished(2**50, 10) == []

    async def test_an_event_can_be_told_again_without_a_change(
        self, shelves: Documents[Shelf], told: list[Message]
    ) -> None:
        await shelves.insert("a", Shelf(size=4))
        await shelves.update("a", lambda _: Decision(None, events=[_event(4)]))
        assert [message.id for message in told] == ["shelves/a/2/0"]
        assert await shelves.get("a") == Shelf(size=4)

    async def test_published_events_are_not_handed_out_again_and_expire(
        self, store: Store, shelves: Documents[Shelf]
    ) -> None:
        for _ in range(3):
            await shelves.update("a", grow)
        await store.mark_published(["shelves/a/1/0", "shelves/a/2/0"])
        assert [message.id for message in await store.unpublished(2**50, 10)] == ["shelves/a/3/0"]
        assert await store.purge_published(stored_before_ms=2**50, limit=1) == 1
        assert await store.purge_published(stored_before_ms=2**50, limit=9) == 1
        assert (await store.outbox_backlog())[0] == 1

    async def test_published_events_can_be_read_again_in_pages(self, store: Store, shelves: Documents[Shelf]) -> None:
        for _ in range(4):
            await shelves.update("a", grow)
        ids = [f"shelves/a/{version}/0" for version in (1, 2, 3)]
        (stored, *_) = await store.unpublished(2**50, 10)
        await store.mark_published(ids)
        first = await store.published_since(stored_from_ms=0, after="", limit=2)
        rest = await store.published_since(stored_from_ms=0, after=first[-1].id, limit=2)
        assert [message.id for message in (*first, *rest)] == ids
        assert first[0] == stored
        assert await store.published_since(stored_from_ms=2**50, after="", limit=2) == []

    async def test_documents_are_found_by_declared_fields_in_order(self, shelves: Documents[Shelf]) -> None:
        for number, colour in enumerate(["red", "blue", "red", "red"]):
            await shelves.insert(f"s{number}", Shelf(size=number, colour=colour, due_ms=100 - number))
        await shelves.insert("undated", Shelf(size=99, colour="red"))
        red = Where("colour", "=", "red")
        found = await shelves.find(red, Where("due_ms", "<=", 100), order_by="due_ms", limit=2)
        assert [shelf.size for shelf in found] == [3, 2]
        latest = await shelves.find(red, order_by="due_ms", descending=True, limit=9)
        assert [shelf.size for shelf in latest] == [0, 2, 3]
        assert await shelves.count(Where("colour", "in", ("red", "blue"))) == 5
        assert await shelves.count(Where("due_ms", ">", 98)) == 2

    async def test_a_field_that_was_not_declared_is_refused(self, shelves: Documents[Shelf]) -> None:
        with pytest.raises(ValueError, match="size is not a declared index"):
            await shelves.find(Where("size", "=", 1), limit=1)

    async def test_purge_takes_a_bounded_bite_and_frees_unique_keys(self, shelves: Documents[Shelf]) -> None:
        for number in range(5):
            await shelves.insert(f"s{number}", Shelf(f"label {number}", colour="red"))
        assert await shelves.purge(Where("colour", "=", "red"), limit=3) == 3
        assert await shelves.purge(Where("colour", "=", "red"), limit=3) == 2
        await shelves.insert("again", Shelf("label 0"))

    async def test_a_caller_that_hangs_up_does_not_disturb_the_others(self, shelves: Documents[Shelf]) -> None:
        leaving = asyncio.ensure_future(shelves.update("a", grow))
        staying = [asyncio.ensure_future(shelves.update("a", grow)) for _ in range(5)]
        leaving.cancel()
        sizes: list[Any] = await asyncio.gather(*staying)
        assert len(set(sizes)) == 5
        size = (await shelves.get("a") or Shelf()).size
        assert size in (5, 6)
