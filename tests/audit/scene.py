"""A sale that went well, played by the real services in one loop, then laid down in SQLite files to be damaged.

What is in it: tickets bought from the line and by a static token, with and without a decline before; a purchase that
was refunded; holds that were cancelled, that expired, and one that still stands; somebody who left the line, and
somebody who did not come when called. Everybody's calls are written down.
"""

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import orjson

from libs.common.events.topics import TOPICS
from libs.common.storage.memory import MemoryStore
from libs.common.storage.ports import Collection
from libs.common.storage.sqlite import SqliteStore
from libs.common.system import SystemClock
from libs.common.testing.app_client import Answered
from loadtest.audit.__main__ import judged
from loadtest.audit.doors.ports import BrokerDoor, Heard, Share, StoreDoor, Stream
from loadtest.audit.doors.sqlite import SqliteDoor
from loadtest.audit.history import Call, read_history
from loadtest.audit.looking import Seen, look
from loadtest.audit.verdict import Check
from loadtest.audit.world import Reader, Rules, World
from loadtest.buying.history import History
from services.catalog.repository import CONCERTS, SCHEDULES
from services.queue.repository import JOINS, ROOMS, SESSIONS
from services.reservation.repository.documents import BLOCKS, PAYMENT_KEYS, PLACES, RESERVATIONS
from services.reservation.repository.tickets import TICKETS
from services.wallet.repository import ENTRIES
from tests.buyer import SEAT_PRICE, Buyer
from tests.system.one_loop import OneLoop, play

COLLECTIONS: dict[str, tuple[Collection[Any], ...]] = {
    "reservation": (BLOCKS, RESERVATIONS, PLACES, TICKETS, PAYMENT_KEYS),
    "wallet": (ENTRIES,),
    "queue": (ROOMS, SESSIONS, JOINS),
    "catalog": (CONCERTS, SCHEDULES),
}
CAPACITY = 3


@dataclass(frozen=True)
class Kept:
    """What is left of a played sale: documents `(id, version, body)` and outbox rows by service, and what was heard."""

    documents: Mapping[str, Mapping[str, Sequence[tuple[str, int, dict[str, Any]]]]]
    outbox: Mapping[str, Sequence[tuple[Any, ...]]]
    heard: Heard
    history: Sequence[bytes]
    now_ms: int
    reservations: Mapping[str, str]
    """Ids by what they are: `bought`, `from_the_line`, `refunded`, `cancelled`, `expired`, `held`."""


class Recorded:
    """`tests.buyer.Caller` that writes down what it sees."""

    def __init__(self, system: OneLoop, history: History) -> None:
        self._system = system
        self._history = history

    async def call(
        self, method: str, path: str, json: Any = None, *, headers: Mapping[str, str] | None = None, raw: bytes = b""
    ) -> Answered:
        sent_ms = self._system.clock.now_ms()
        reply = await self._system.call(method, path, json, headers=headers, raw=raw)
        self._history.add(method, path, json, headers or {}, (sent_ms, self._system.clock.now_ms()), reply)
        await self._system.clock.sleep(0.01)
        return reply


@cache
def a_sale() -> Kept:
    kept: list[Kept] = []

    async def scene(system: OneLoop) -> None:
        history = History()
        caller = Recorded(system, history)
        ids = await _sale(system, caller)
        await system.clock.sleep(5)
        kept.append(_kept(system, history, ids))

    play(scene, room_capacity=CAPACITY, hold_s=40.0, claim_window_s=20.0, leader_lease_s=3.0)
    return kept[0]


async def _sale(system: OneLoop, caller: Recorded) -> dict[str, str]:
    ids: dict[str, str] = {}

    async def held(name: str, user: int, seats: list[int], *, key: str | None = None) -> Buyer:
        buyer = Buyer(caller, user)
        reply = await buyer.hold(1, seats, key=key)
        assert reply.status == 201, reply.body
        ids[name] = reply.json["id"]
        return buyer

    for user in range(1, 9):
        await Buyer(caller, user).charge(10 * SEAT_PRICE, key="start")
    await held("expired", 3, [5, 6])
    visitor, absent = Buyer(caller, 20), Buyer(caller, 21)
    for buyer in (visitor, absent, Buyer(caller, 22)):
        await buyer.join()
    await buyer.leave()
    await system.clock.sleep(2)
    assert await visitor.position() == 0
    taken = await visitor.hold(2, [1, 2, 3])
    ids["from_the_line"] = taken.json["id"]
    assert (await visitor.pay(ids["from_the_line"], key="pay")).code == "NOT_ENOUGH_POINTS"
    await visitor.charge(3 * SEAT_PRICE)
    for _ in range(2):
        assert (await visitor.pay(ids["from_the_line"], key="pay")).status == 200
    bought = await held("bought", 1, [1, 2], key="hold")
    await bought.hold(1, [1, 2], key="hold")
    await bought.pay(ids["bought"])
    refunded = await held("refunded", 2, [3, 4])
    await refunded.pay(ids["refunded"])
    await system.clock.sleep(1)
    order = {"who": "operator", "why": "the concert was moved"}
    await system.clients["reservation"].call("POST", f"/internal/v1/reservations/{ids['refunded']}/refund", order)
    cancelled = await held("cancelled", 4, [7])
    await cancelled.cancel(ids["cancelled"])
    await system.clock.sleep(45)
    await held("held", 5, [8, 9])
    return ids


def _kept(system: OneLoop, history: History, ids: Mapping[str, str]) -> Kept:
    documents, outbox = {}, {}
    for service, collections in COLLECTIONS.items():
        store = system.stores[service]
        documents[service] = {each.name: _documents(store, each.name) for each in collections}
        published = [(message, ms, 1) for message, ms in store.published.values()]
        waiting = [(message, ms, 0) for message, ms in store.outbox.values()]
        outbox[service] = [
            (each.id, each.topic, each.key, each.type, each.source, each.time_ms, each.data, "", ms, done)
            for each, ms, done in (*published, *waiting)
        ]
    heard = Heard(shares=[Share(topic.name, group, 0, 0) for topic in TOPICS.values() for group in topic.groups])
    for name in TOPICS:
        entries = system.broker.logs[name].entries if name in system.broker.logs else []
        told = {message.id: at_ms for at_ms, message in entries}
        first_ms = entries[0][0] if entries else None
        heard.streams[name] = Stream(name, told, first_ms, [message.data for _, message in entries])
    return Kept(documents, outbox, heard, history.lines, system.clock.now_ms(), ids)


def _documents(store: MemoryStore, name: str) -> list[tuple[str, int, dict[str, Any]]]:
    found = store._collections[name]._documents
    # There and back, as any real store does it: tuples become lists.
    return [(id_, version, orjson.loads(orjson.dumps(body))) for id_, (version, body) in found.items()]


def lay_down(kept: Kept, folder: Path) -> None:
    """Write a sale into SQLite files, as the services would have."""
    for service, collections in COLLECTIONS.items():
        path = folder / f"{service}.db"
        asyncio.run(_make(path, collections))
        with closing(sqlite3.connect(path)) as connection, connection:
            for declared in collections:
                columns = ["id", "version", "body", *(f"field_{field}" for field in declared.fields)]
                marks = ", ".join("?" * len(columns))
                connection.executemany(
                    f"INSERT INTO doc_{declared.name} ({', '.join(columns)}) VALUES ({marks})",  # noqa: S608
                    [
                        (id_, version, orjson.dumps(body), *(body.get(field) for field in declared.fields))
                        for id_, version, body in kept.documents[service][declared.name]
                    ],
                )
            connection.executemany(
                "INSERT INTO outbox (id, topic, key, type, source, time_ms, data, traceparent, stored_ms, published)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                kept.outbox[service],
            )


async def _make(path: Path, collections: Sequence[Collection[Any]]) -> None:
    store = SqliteStore(path, SystemClock())
    for declared in collections:
        store.collection(declared)
    await store.start()
    await store.stop()


class Ground:
    """A sale laid down in a folder, and the ways to damage it."""

    def __init__(self, kept: Kept, folder: Path) -> None:
        self.kept = kept
        self.folder = folder
        self.heard = _copied(kept.heard)
        self.now_ms = kept.now_ms
        self.history: Sequence[Call] | None = None

    def edit(self, name: str, id_: str, change: Callable[[dict[str, Any]], object]) -> None:
        """Change a document by hand, leaving its version as it is."""
        with closing(sqlite3.connect(self._file(name))) as connection, connection:
            ((body,),) = connection.execute(f"SELECT body FROM doc_{name} WHERE id = ?", (id_,))  # noqa: S608
            known = orjson.loads(body)
            change(known)
            connection.execute(f"UPDATE doc_{name} SET body = ? WHERE id = ?", (orjson.dumps(known), id_))  # noqa: S608

    def insert(self, name: str, id_: str, body: dict[str, Any]) -> None:
        with closing(sqlite3.connect(self._file(name))) as connection, connection:
            row = (id_, orjson.dumps(body))
            connection.execute(f"INSERT INTO doc_{name} (id, version, body) VALUES (?, 1, ?)", row)  # noqa: S608

    def delete(self, name: str, id_: str) -> None:
        self.sql(name, f"DELETE FROM doc_{name} WHERE id = ?", id_)  # noqa: S608

    def sql(self, name: str, statement: str, *values: object) -> None:
        """Run a statement on the file that has the collection `name`."""
        with closing(sqlite3.connect(self._file(name))) as connection, connection:
            assert connection.execute(statement, values).rowcount > 0, f"{statement} met nothing"

    def body(self, name: str, id_: str) -> dict[str, Any]:
        every = chain.from_iterable(each[name] for each in self.kept.documents.values() if name in each)
        return next(body for known, _, body in every if known == id_)

    def entries(self, user: int) -> list[dict[str, Any]]:
        found = [body for _, _, body in self.kept.documents["wallet"]["entries"] if body["user"] == user]
        return sorted(found, key=lambda body: body["seq"])

    def calls(self) -> list[dict[str, Any]]:
        """What clients saw, a line each."""
        return [orjson.loads(line) for line in self.kept.history]

    def with_history(
        self, *changed: tuple[Callable[[dict[str, Any]], bool], Callable[[dict[str, Any]], object]]
    ) -> None:
        """Audit with what clients saw. Each change is done to the first call that its condition picks."""
        calls = self.calls()
        for picks, change in changed:
            change(next(filter(picks, calls)))
        self.with_lines(calls)

    def with_lines(self, calls: Sequence[dict[str, Any]]) -> None:
        path = self.folder / "history.jsonl"
        path.write_bytes(b"\n".join(map(orjson.dumps, calls)))
        self.history = read_history(path)

    def audit(
        self, *, is_running: bool = True, settle_s: float = 0.0, stores: Mapping[str, StoreDoor] | None = None
    ) -> "Audit":
        doors = stores or {service: SqliteDoor(self.folder / f"{service}.db") for service in COLLECTIONS}
        broker: BrokerDoor = _Broker(self.heard)
        reader = Reader(dict(doors), broker, Rules(), lambda: self.now_ms)

        def judge() -> tuple[World, list[Check]]:
            world = reader.read()
            return world, judged(world, self.history, None)

        return Audit(look(judge, is_running=is_running, settle_s=settle_s))

    def _file(self, name: str) -> Path:
        service = next(service for service, every in COLLECTIONS.items() if name in [each.name for each in every])
        return self.folder / f"{service}.db"


@dataclass(frozen=True)
class Audit:
    seen: Seen

    @property
    def offences(self) -> list[str]:
        """`I4 entry 7:2 …` for each of them."""
        return [f"{each.check.invariant} {told}" for each in self.seen.findings for told in each.offences]

    @property
    def under_way(self) -> list[str]:
        return [f"{each.check.invariant} {told}" for each in self.seen.findings for told in each.under_way]

    @property
    def counts(self) -> dict[str, int]:
        """How many things each claim was checked on."""
        return {finding.check.claim: finding.check.count for finding in self.seen.findings}

    def names(self, invariant: str, *parts: object) -> bool:
        """True when an offence of the invariant names all of these."""
        own = [told for told in self.offences if told.startswith(f"{invariant} ")]
        return any(all(str(part) in told for part in parts) for told in own)


@dataclass
class _Broker:
    heard: Heard

    def hear(self, bodies_of: frozenset[str]) -> Heard:
        return self.heard


def _copied(heard: Heard) -> Heard:
    streams = {
        name: Stream(name, dict(each.told), each.whole_from_ms, list(each.bodies))
        for name, each in heard.streams.items()
    }
    return Heard(streams, list(heard.shares), list(heard.letters))


def copy_of(template: Path, folder: Path) -> Path:
    return Path(shutil.copytree(template, folder, dirs_exist_ok=True))
