"""The ways in: what is there comes out, consistent, and nothing changes."""

import asyncio
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest
import redis
from pymongo.database import Database

from libs.common.errors import Poison
from libs.common.events.topics import QUEUE_LINE, RESERVATION_PAYMENTS, WALLET_PAYMENTS
from libs.common.messaging.kafka.bus import KafkaBus
from libs.common.messaging.ports import Message
from libs.common.messaging.redis_streams.bus import RedisStreamsBus
from libs.common.metrics import CommonMetrics
from libs.common.storage.folding import Documents
from libs.common.storage.mongo.store import MongoStore
from libs.common.storage.ports import Collection
from libs.common.storage.sqlite import SqliteStore
from libs.common.system import SystemClock
from libs.common.testing.eventually import eventually
from libs.common.testing.kafka_broker import kafka_url
from libs.common.testing.redis_server import served
from loadtest.audit.doors.kafka import KafkaDoor
from loadtest.audit.doors.mongo import COLLECTIONS as MONGO_COLLECTIONS
from loadtest.audit.doors.mongo import MongoDoor
from loadtest.audit.doors.ports import CannotRead
from loadtest.audit.doors.redis_streams import RedisDoor
from loadtest.audit.doors.sqlite import SqliteDoor
from tests.audit.scene import COLLECTIONS, Ground

PAIRS: tuple[Collection[Any], ...] = tuple(
    Collection(name, lambda body: body, lambda body: body) for name in ("a", "b")
)
READ_ONLY = {"xrange", "xinfo", "xinfo|stream", "xinfo|groups", "xpending", "exists", "info"}
CONNECTING = {"client", "client|setinfo", "client|setname", "config", "config|resetstat", "hello", "select"}


def message(topic: str, id_: str) -> Message:
    return Message(topic, "key", id_, "PaymentCompleted", "/stagedoor/test", 1_800_000_000_000, b'{"a":1}')


async def test_a_sqlite_file_is_read_as_of_one_moment_while_its_service_writes(tmp_path: Path) -> None:
    path = tmp_path / "wallet.db"
    store = SqliteStore(path, SystemClock())
    first, second = (Documents(store, each, "test", CommonMetrics("test"), lambda _: None) for each in PAIRS)
    await store.start()
    over = asyncio.Event()

    async def write() -> None:
        number = 0
        while not over.is_set():
            await first.insert(str(number), {"number": number})
            await second.insert(str(number), {"number": number})
            number += 1

    writing = asyncio.create_task(write())
    counts = []
    for _ in range(20):
        found = await asyncio.to_thread(SqliteDoor(path).documents, ("b", "a"))
        counts.append((len(found["a"]), len(found["b"])))
    over.set()
    await writing
    await store.stop()
    assert all(a - b in (0, 1) for a, b in counts), counts
    assert counts[-1] > counts[0]


def test_a_file_that_nobody_has_open_is_read_without_a_trace(ground: Ground) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in ground.folder.iterdir()}
    assert ground.audit().offences == []
    assert {path.name: path.stat().st_mtime_ns for path in ground.folder.iterdir()} == before


def test_a_file_that_is_missing_or_no_store_is_named(tmp_path: Path) -> None:
    path = tmp_path / "wallet.db"
    with pytest.raises(CannotRead, match=r"wallet\.db is not there"):
        SqliteDoor(path).outbox()
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(CannotRead, match=r"wallet\.db.*not a database"):
        SqliteDoor(path).outbox()


@pytest.fixture
def redis_url() -> Iterator[str]:
    yield from (server.url for server in served())


@pytest.mark.redis
async def test_redis_streams_are_heard_whole_with_what_groups_left_and_what_they_buried(redis_url: str) -> None:
    bus = RedisStreamsBus(redis_url, "test", SystemClock(), CommonMetrics("test"))
    handled: list[str] = []

    async def handle(each: Message) -> None:
        if each.id == "two":
            raise Poison("two cannot be read")
        handled.append(each.id)

    await bus.start()
    await bus.subscribe(WALLET_PAYMENTS, "reservation", handle)
    await bus.publish([message(WALLET_PAYMENTS, id_) for id_ in ("one", "two", "three")])
    await bus.publish([message(RESERVATION_PAYMENTS, id_) for id_ in ("four", "five")])
    await bus.publish([message(QUEUE_LINE, "six")])
    await eventually(lambda: len(handled) == 2)
    await bus.stop()
    heard = await asyncio.to_thread(RedisDoor(redis_url).hear, frozenset({QUEUE_LINE}))
    assert set(heard.streams[WALLET_PAYMENTS].told) == {"one", "two", "three"}
    assert heard.streams[QUEUE_LINE].bodies == [b'{"a":1}']
    assert heard.streams[WALLET_PAYMENTS].bodies == []
    left = {(share.topic, share.group): share for share in heard.shares}
    assert left[WALLET_PAYMENTS, "reservation"].unfinished_count == 0
    assert left[RESERVATION_PAYMENTS, "wallet"].unfinished_count == 2
    oldest_ms = heard.streams[RESERVATION_PAYMENTS].told["four"]
    assert left[RESERVATION_PAYMENTS, "wallet"].oldest_ms == oldest_ms > 0
    (letter,) = heard.letters
    assert (letter.topic, letter.group, letter.event_id) == (WALLET_PAYMENTS, "reservation", "two")
    assert "two cannot be read" in letter.error


@pytest.mark.redis
def test_redis_is_asked_nothing_that_changes_anything(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        for topic, group in ((WALLET_PAYMENTS, "reservation"), (RESERVATION_PAYMENTS, "wallet")):
            client.xadd(f"stagedoor:topic:{topic}", {"ce_id": "one", "data": "{}"})
            client.xgroup_create(f"stagedoor:topic:{topic}", group, id="0")
        client.xreadgroup("wallet", "somebody", {f"stagedoor:topic:{RESERVATION_PAYMENTS}": ">"})
        client.config_resetstat()
        heard = RedisDoor(redis_url).hear(frozenset())
        asked = {str(name).removeprefix("cmdstat_") for name in client.info("commandstats")}
    assert asked - CONNECTING <= READ_ONLY
    assert {share.unfinished_count for share in heard.shares if share.oldest_ms} == {1}


@pytest.mark.redis
def test_a_redis_stream_without_entries_tells_from_when_on_nothing_was_trimmed(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        key = f"stagedoor:topic:{WALLET_PAYMENTS}"
        last_ms = int(client.time()[0]) * 1000 + 60_000  # after the server's start
        client.xadd(key, {"ce_id": "one", "data": "{}"}, id=f"{last_ms}-0")
        client.xtrim(key, maxlen=0, approximate=False)
        now_ms = int(client.time()[0]) * 1000
    heard = RedisDoor(redis_url).hear(frozenset())
    assert heard.streams[WALLET_PAYMENTS].whole_from_ms == last_ms
    never_there = heard.streams[RESERVATION_PAYMENTS].whole_from_ms
    assert never_there is not None
    assert never_there <= now_ms + 1000  # the server's start


def test_a_redis_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotRead, match="the broker's Redis"):
        RedisDoor(f"unix://{tmp_path}/redis.sock").hear(frozenset())


@pytest.mark.kafka
async def test_kafka_is_heard_whole_by_somebody_who_is_in_no_group() -> None:
    url = await asyncio.to_thread(kafka_url)
    name = secrets.token_hex(6)
    bus = KafkaBus(url, f"audited-{name}", SystemClock(), CommonMetrics("test"))
    ids = {f"{name}-{number}" for number in range(50)}
    await bus.start()
    await bus.publish([message(WALLET_PAYMENTS, id_) for id_ in ids])
    await bus.stop()
    heard = await asyncio.to_thread(KafkaDoor(url).hear, frozenset({WALLET_PAYMENTS}))
    assert ids <= set(heard.streams[WALLET_PAYMENTS].told)
    assert heard.streams[WALLET_PAYMENTS].bodies.count(b'{"a":1}') >= len(ids)
    left = {(share.topic, share.group): share for share in heard.shares}
    assert left[WALLET_PAYMENTS, "reservation"].unfinished_count >= len(ids)
    assert left[WALLET_PAYMENTS, "reservation"].oldest_ms > 0


@pytest.fixture
def mongo_url(ground: Ground) -> Iterator[str]:
    """The sale of `ground`, in databases of the test's own."""
    server = os.environ.get("TEST_MONGO_URL")
    if not server:
        if os.environ.get("REQUIRE_REAL") == "1":
            pytest.fail("REQUIRE_REAL=1 and no MongoDB: TEST_MONGO_URL is not set")
        pytest.skip("no MongoDB: `make test-real` brings a stand-in")
    url = f"{server}/test-{secrets.token_hex(6)}"
    databases = [MongoStore(url, service, SystemClock(), "pymongo").database for service in COLLECTIONS]
    with pymongo.MongoClient[Any](server) as client:
        for service, name in zip(COLLECTIONS, databases, strict=True):
            _lay_down(ground, service, client[name])
        yield url
        for name in databases:
            client.drop_database(name)


def _lay_down(ground: Ground, service: str, database: Database[Any]) -> None:
    database["schema_version"].insert_one({"_id": "current", "version": 1})
    for name, documents in ground.kept.documents[service].items():
        rows = [{"_id": id_, "v": version, "body": body, "outbox": []} for id_, version, body in documents]
        if rows:
            database[name].insert_many(rows)
    database["outbox_published"].insert_many(
        [{"_id": row[0], "topic": row[1], "type": row[3], "stored_ms": row[8]} for row in ground.kept.outbox[service]]
    )


def test_every_collection_of_the_services_is_asked_for_events_that_wait() -> None:
    declared = {service: {each.name for each in every} for service, every in COLLECTIONS.items()}
    assert {service: set(names) for service, names in MONGO_COLLECTIONS.items()} == declared


@pytest.mark.mongo
def test_a_sale_in_mongodb_is_clean_and_its_damage_is_named(ground: Ground, mongo_url: str) -> None:
    doors = {service: MongoDoor(mongo_url, service) for service in COLLECTIONS}
    clean = ground.audit(stores=doors)
    assert clean.offences == []
    assert clean.counts == ground.audit().counts
    event = {"_id": "entries/1:2/1/0", "topic": WALLET_PAYMENTS, "type": "PaymentCompleted", "stored_ms": 1}
    with pymongo.MongoClient[Any](mongo_url) as client:
        wallet = client[f"{mongo_url.rpartition('/')[2]}_wallet"]
        wallet["entries"].update_one({"_id": "1:2"}, {"$set": {"body.amount": -1}, "$push": {"outbox": event}})
    damaged = ground.audit(stores=doors)
    assert damaged.names("I4", "entry 1:2", "is not 80000")
    assert damaged.names("I8", "entries/1:2/1/0 waits in the outbox of wallet")


@pytest.mark.mongo
def test_a_database_that_is_not_there_is_named(mongo_url: str) -> None:
    with pytest.raises(CannotRead, match=r"there is no database .*nowhere_wallet"):
        MongoDoor(f"{mongo_url.rpartition('/')[0]}/nowhere", "wallet").outbox()
