"""The Documents contract on MongoDB, by both drivers, and what only this store can get wrong.

`TEST_MONGO_URL` names the server; every test has a database of its own in it. `make test-real` brings a stand-in, which
has no replication: what a majority means, and losing a primary, are not seen here.
"""

import asyncio
import gc
import multiprocessing
import os
import secrets
import socket
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from multiprocessing.synchronize import Barrier

import bson
import pymongo
import pytest
import uvloop
from blockbuster import BlockBuster

from libs.common.clock import Clock
from libs.common.errors import ConfigError, DependencyDown
from libs.common.messaging.memory import MemoryBroker, MemoryBus
from libs.common.messaging.outbox import OutboxRelay
from libs.common.messaging.ports import Message
from libs.common.metrics import CommonMetrics
from libs.common.storage.folding import Documents
from libs.common.storage.mongo import connection
from libs.common.storage.mongo.collection import OUTBOX_COUNT_MAX
from libs.common.storage.mongo.store import MongoStore
from libs.common.storage.opening import open_store
from libs.common.storage.ports import Collection, Stale, Store, Where
from libs.common.system import SystemClock
from libs.common.testing.documents_contract import SHELVES, DocumentsContract, OpenStore, Shelf, grow
from libs.common.testing.eventually import eventually
from libs.common.testing.wire import Wire

MISSING = "no MongoDB: `make test-real` brings a stand-in"
EVER = 2**50
GROWN_IN_EACH_PROCESS = 200
BOXES: Collection[Shelf] = Collection("boxes", SHELVES.encode, SHELVES.decode)


@pytest.fixture(autouse=True)
def a_new_client_looks_whether_it_is_in_a_container(no_blocking_calls: BlockBuster) -> None:
    no_blocking_calls.functions["os.stat"].can_block_in("pymongo/pool_options.py", {"get_container_env_info"})


@pytest.fixture(params=["motor", "pymongo"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url() -> Iterator[str]:
    """A store of the test's own, empty at first and gone afterwards."""
    server = os.environ.get("TEST_MONGO_URL")
    if not server:
        if os.environ.get("REQUIRE_REAL") == "1":
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    prefix = f"test-{secrets.token_hex(6)}"
    yield f"{server}/{prefix}"
    with pymongo.MongoClient[connection.Document](server) as client:
        client.drop_database(f"{prefix}_test")


@pytest.fixture
def short_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter than the product's. Pymongo notices up to 0.5 s late, when it next looks at the server."""
    monkeypatch.setitem(connection.OPTIONS, "timeoutMS", 700)


@asynccontextmanager
async def opened(url: str, driver: str, clock: Clock | None = None) -> AsyncIterator[MongoStore]:
    store = MongoStore(url, "test", clock or SystemClock(), driver)
    store.collection(SHELVES)
    store.collection(BOXES)
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


def shelves_of(store: Store) -> Documents[Shelf]:
    return Documents(store, SHELVES, "test", CommonMetrics("test"), lambda _: None)


def event(id_: str) -> Message:
    return Message("wallet.payments.v1", "k", id_, "PaymentCompleted", "/stagedoor/test", 1, b'{"a":1}')


@pytest.fixture
async def store(url: str, driver: str) -> AsyncIterator[MongoStore]:
    async with opened(url, driver) as store:
        yield store


class StoppedClock(SystemClock):
    """Stands at `at_ms`."""

    def __init__(self, at_ms: int) -> None:
        self.at_ms = at_ms

    def now_ms(self) -> int:
        return self.at_ms


@pytest.mark.mongo
class TestContract(DocumentsContract):
    @pytest.fixture
    def open_store(self, url: str, driver: str) -> OpenStore:
        return lambda: opened(url, driver)


@pytest.mark.mongo
class TestDecisions:
    async def test_of_50_compare_and_sets_on_one_version_exactly_one_wins(self, store: MongoStore) -> None:
        shelves = store.collection(SHELVES)
        await shelves.swap("a", 0, {"size": 0}, [])
        tries = (shelves.swap("a", 1, {"size": n}, [event(f"shelves/a/2/{n}")]) for n in range(50))
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        winner = outcomes.index(None)
        assert sum(isinstance(outcome, Stale) for outcome in outcomes) == 49
        after = await shelves.load("a")
        assert after is not None
        assert (after.version, after.body) == (2, {"size": winner})
        assert [message.id for message in await store.unpublished(EVER, 99)] == [f"shelves/a/2/{winner}"]

    def test_updates_from_two_processes_all_count_and_are_all_told_once(self, url: str, driver: str) -> None:
        spawn = multiprocessing.get_context("spawn")
        together = spawn.Barrier(2)
        processes = [spawn.Process(target=_grow_in_process, args=(url, driver, together)) for _ in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
            assert process.exitcode == 0

        async def outcome() -> tuple[Shelf | None, list[str]]:
            async with opened(url, driver) as store:
                waiting = await store.unpublished(EVER, 2 * OUTBOX_COUNT_MAX)
                return await shelves_of(store).get("a"), [message.id for message in waiting]

        shelf, ids = asyncio.run(outcome())
        assert shelf == Shelf(size=2 * GROWN_IN_EACH_PROCESS)
        assert len(ids) == len(set(ids)) == 2 * GROWN_IN_EACH_PROCESS

    async def test_marking_never_makes_a_decision_lose(self, store: MongoStore) -> None:
        told: list[Message] = []
        metrics = CommonMetrics("test")
        shelves = Documents(store, SHELVES, "test", metrics, told.extend)

        async def mark_what_is_told() -> None:
            marked = 0
            while marked < 200:
                batch = told[marked:]
                await store.mark_published([message.id for message in batch])
                marked += len(batch)
                await asyncio.sleep(0)

        marking = asyncio.create_task(mark_what_is_told())
        for _ in range(200):
            await shelves.update("a", grow)
        await marking
        lost = metrics.registry.get_sample_value("stagedoor_swaps_lost_total", {"collection": "shelves"})
        assert (lost, await store.outbox_backlog()) == (0, (0, None))

    async def test_only_strings_and_whole_numbers_reach_a_condition(self, store: MongoStore) -> None:
        shelves = store.collection(SHELVES)
        await shelves.swap("a", 0, {"colour": "red"}, [])
        for wanted in ({"$ne": ""}, None, 1.5, ["red"]):
            with pytest.raises(TypeError, match="neither a string nor a whole number"):
                await shelves.find([Where("colour", "=", wanted)], None, descending=False, limit=9)
            with pytest.raises(TypeError, match="neither a string nor a whole number"):
                await shelves.load(wanted)  # type: ignore[arg-type]

    async def test_a_search_for_nothing_is_not_a_search_without_a_limit(self, store: MongoStore) -> None:
        shelves = store.collection(SHELVES)
        await shelves.swap("a", 0, {"colour": "red"}, [])
        assert await shelves.find([Where("colour", "=", "red")], None, descending=False, limit=0) == []
        assert await shelves.purge([Where("colour", "=", "red")], limit=0) == 0
        assert await shelves.count([]) == 1


@pytest.mark.mongo
class TestOutbox:
    async def test_what_a_crash_left_behind_is_drained_by_the_relay(self, url: str, driver: str) -> None:
        long_ago = StoppedClock(SystemClock().now_ms() - 60_000)
        async with opened(url, driver, long_ago) as store:
            for name in ("a", "b"):
                await shelves_of(store).update(name, grow)
        clock, metrics = SystemClock(), CommonMetrics("test")
        broker = MemoryBroker(clock)
        async with opened(url, driver) as store:
            relay = OutboxRelay(store, MemoryBus(broker, "one", metrics), clock, metrics)
            await relay.start()

            async def is_drained() -> bool:
                return await store.outbox_backlog() == (0, None)

            await eventually(is_drained)
            await relay.stop()
        published = [message.id for _, message in broker.log("wallet.payments.v1").entries]
        assert sorted(published) == ["shelves/a/1/0", "shelves/b/1/0"]

    async def test_the_oldest_events_of_all_collections_come_first(self, url: str, driver: str) -> None:
        clock = StoppedClock(0)
        async with opened(url, driver, clock) as store:
            boxes, shelves = store.collection(BOXES), store.collection(SHELVES)
            clock.at_ms = 50
            await boxes.swap("0", 0, {}, [event("boxes/0/1/0")])
            clock.at_ms = 10
            await boxes.swap("a", 0, {}, [event("boxes/a/1/0")])
            clock.at_ms = 40
            await boxes.swap("a", 1, {}, [event("boxes/a/2/0")])
            clock.at_ms = 20
            await boxes.swap("b", 0, {}, [event("boxes/b/1/0")])
            clock.at_ms = 30
            await shelves.swap("c", 0, {}, [event("shelves/c/1/0")])
            for silent in ("d", "e", "f"):
                await boxes.swap(silent, 0, {}, [])
            ids = ["boxes/a/1/0", "boxes/b/1/0", "shelves/c/1/0", "boxes/a/2/0", "boxes/0/1/0"]
            in_order = [event(id_) for id_ in ids]
            assert await store.unpublished(EVER, 9) == in_order
            assert await store.unpublished(EVER, 2) == in_order[:2]
            assert await store.unpublished(20, 9) == in_order[:1]
            assert await store.outbox_backlog() == (5, 10)

    async def test_a_document_that_told_much_is_as_small_as_one_that_told_nothing(self, store: MongoStore) -> None:
        shelves = store.collection(SHELVES)
        await shelves.swap("a", 0, {"size": 0}, [])
        for version in range(1, 41):
            ids = [f"shelves/a/{version + 1}/{index}" for index in range(50)]
            await shelves.swap("a", version, {"size": 0}, [event(id_) for id_ in ids])
            await store.mark_published(ids)
        async with store._connection.operation() as database:
            document = await database["shelves"].find_one({"_id": "a"})
            kept = await database["outbox_published"].count_documents({})
        assert len(bson.encode(document or {})) < 150
        assert kept == 2_000

    async def test_a_document_whose_events_nobody_takes_stops_telling_more(self, store: MongoStore) -> None:
        shelves = store.collection(SHELVES)
        await shelves.swap("a", 0, {}, [])
        ids = [f"shelves/a/2/{index}" for index in range(OUTBOX_COUNT_MAX)]
        await shelves.swap("a", 1, {}, [event(id_) for id_ in ids])
        with pytest.raises(DependencyDown, match="wait for the broker"):
            await shelves.swap("a", 2, {}, [event("shelves/a/3/0")])
        with pytest.raises(Stale):
            await shelves.swap("a", 1, {}, [event("shelves/a/2/0")])
        await shelves.swap("a", 2, {}, [])
        await store.mark_published(ids[:1])
        await shelves.swap("a", 3, {}, [event("shelves/a/4/0")])

    async def test_a_document_is_not_purged_before_its_events_are_published(self, store: MongoStore) -> None:
        shelves = store.collection(SHELVES)
        await shelves.swap("a", 0, {"colour": "red"}, [event("shelves/a/1/0")])
        assert await shelves.purge([Where("colour", "=", "red")], limit=9) == 0
        await store.mark_published(["shelves/a/1/0"])
        assert await shelves.purge([Where("colour", "=", "red")], limit=9) == 1

    async def test_an_event_of_a_document_with_slashes_in_its_id_is_marked(self, store: MongoStore) -> None:
        await store.collection(SHELVES).swap("a/b/c", 0, {}, [event("shelves/a/b/c/1/0")])
        await store.mark_published(["shelves/a/b/c/1/0"])
        assert await store.outbox_backlog() == (0, None)


@pytest.mark.mongo
class TestOpening:
    async def test_what_was_answered_is_there_after_reopening(self, url: str, driver: str) -> None:
        async with opened(url, driver) as store:
            await shelves_of(store).update("a", grow)
        async with opened(url, driver) as store:
            assert await shelves_of(store).get("a") == Shelf(size=1)
            assert len(await store.unpublished(EVER, 10)) == 1

    async def test_a_database_of_a_newer_release_is_refused(self, url: str, driver: str) -> None:
        async with opened(url, driver) as store, store._connection.operation() as database:
            await database["schema_version"].update_one({"_id": "current"}, {"$set": {"version": 99}})
        with pytest.raises(ConfigError, match=r"STORE_URL: test-\w+_test has schema version 99, this release reads 1"):
            async with opened(url, driver):
                pass

    async def test_an_old_server_is_refused(self, url: str, driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connection, "SERVER_VERSION_MIN", (99, 0))
        with pytest.raises(ConfigError, match=r"STORE_URL: MongoDB 99\.0 or later is needed, this is 5"):
            async with opened(url, driver):
                pass

    async def test_documents_that_break_a_new_unique_key_are_refused(self, url: str, driver: str) -> None:
        async with opened(url, driver) as store, store._connection.operation() as database:
            await database["boxes"].insert_many([{"keys": {"label": "same"}}, {"keys": {"label": "same"}}])
        newer = MongoStore(url, "test", SystemClock(), driver)
        newer.collection(Collection("boxes", SHELVES.encode, SHELVES.decode, unique=("label",)))
        with pytest.raises(ConfigError, match=r"STORE_URL: MongoDB refuses: .*E11000"):
            await newer.start()

    async def test_a_closed_store_says_so(self, url: str, driver: str) -> None:
        async with opened(url, driver) as store:
            await store.ping()
        with pytest.raises(DependencyDown, match="closed"):
            await store.ping()


@pytest.mark.mongo
class TestFaults:
    async def test_a_write_whose_reply_is_lost_is_told_as_unknown_and_stands(self, url: str, driver: str) -> None:
        async with Wire(url).open() as wire, opened(wire.url, driver) as store:
            shelves = store.collection(SHELVES)
            await shelves.swap("a", 0, {"size": 1}, [])
            wire.loses_replies = True
            with pytest.raises(DependencyDown, match="does not answer") as told:
                await shelves.swap("a", 1, {"size": 2}, [event("shelves/a/2/0")])
            assert told.value.retry_after_s == 1
            assert "127.0.0.1" not in told.value.detail
            wire.loses_replies = False
            found = await shelves.load("a")
            assert found is not None
            assert (found.version, found.body) == (2, {"size": 2})
            assert [message.id for message in await store.unpublished(EVER, 9)] == ["shelves/a/2/0"]

    async def test_a_server_that_says_nothing_is_given_up(self, url: str, driver: str, short_limit: None) -> None:
        async with Wire(url).open() as wire, opened(wire.url, driver) as store:
            wire.keeps_replies = True
            async with asyncio.timeout(2):
                with pytest.raises(DependencyDown, match="does not answer"):
                    await store.collection(SHELVES).load("a")
            wire.keeps_replies = False
            await store.ping()

    async def test_more_operations_than_connections_are_refused(self, url: str, driver: str, short_limit: None) -> None:
        async with Wire(url).open() as wire, opened(wire.url, driver) as store:
            wire.keeps_replies = True
            reads = (store.collection(SHELVES).load("a") for _ in range(200))
            async with asyncio.timeout(3):
                errors = await asyncio.gather(*reads, return_exceptions=True)
        assert all(isinstance(error, DependencyDown) for error in errors)
        assert sum("Too many operations" in str(error) for error in errors) >= 200 - connection.POOL_COUNT_MAX


async def test_a_server_that_is_down_at_the_start_is_told_in_time(driver: str, short_limit: None) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"mongodb://127.0.0.1:{nobody.getsockname()[1]}"
    async with asyncio.timeout(2):
        with pytest.raises(DependencyDown, match=r"^MongoDB is down: 127\.0\.0\.1:\d+: "):
            async with opened(url, driver):
                pass
    await asyncio.sleep(0)
    with warnings.catch_warnings():
        # Pymongo's client, closed while it tries to connect, leaves that socket to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.mark.parametrize("wrong", ["mongodb://host:port/x", "mongodb://", "mongodb://a/x?w=none&journal=often"])
async def test_a_url_that_cannot_be_names_its_setting(driver: str, wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"^STORE_URL: "):
        async with opened(wrong, driver):
            pass


def test_every_service_has_a_database_of_its_own() -> None:
    named = {"mongodb://a:1,b:2/acceptance?replicaSet=rs": "acceptance_wallet", "mongodb://a": "stagedoor_wallet"}
    for url, database in named.items():
        store = open_store(url, "wallet", SystemClock(), "pymongo")
        assert isinstance(store, MongoStore)
        assert store.database == database
    with pytest.raises(ConfigError, match=r"^STORE_URL: .* prefix"):
        open_store("mongodb://a/two/parts", "wallet", SystemClock())


def test_who_stores_elsewhere_does_not_pay_for_the_drivers() -> None:
    program = "import sys, libs.common.storage.opening; sys.exit(bool({'motor', 'pymongo', 'bson'} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", program], check=False, timeout=30)  # noqa: S603  our own program
    assert ended.returncode == 0


def _grow_in_process(url: str, driver: str, together: Barrier) -> None:
    """What one of two competing processes does."""

    async def grow_all() -> None:
        async with opened(url, driver) as store:
            shelves = shelves_of(store)
            together.wait(30)
            for _ in range(GROWN_IN_EACH_PROCESS // 20):
                await asyncio.gather(*(shelves.update("a", grow) for _ in range(20)))

    uvloop.run(grow_all())
