"""Each action on a running system: it does what it says, and its undo brings back what was."""

import contextlib
import http.client
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from libs.common.events.topics import RESERVATION_PAYMENTS, WALLET_PAYMENTS
from loadtest.chaos.actions import (
    broker,
    clock,
    disk,
    limits,
    partition,
    place,
    poison,
    processes,
    redis_data,
    tickets,
    toxics,
)
from tests.chaos.wired import wired_system

pytestmark = pytest.mark.e2e
long = pytest.mark.skipif(os.environ.get("CHAOS_LONG") != "1", reason="CHAOS_LONG is not 1: it takes half a minute")
BACK_S, HOUR_S = 10.0, 3600

_users = count(1)


def possible(module: Any) -> pytest.MarkDecorator:
    """Skips by the name of what this machine lacks for a module of actions."""
    missing = module.needs()
    return pytest.mark.skipif(bool(missing), reason="; ".join(f"{name}: {why}" for name, why in missing.items()))


@pytest.fixture(scope="module", autouse=True)
def state_dir() -> Iterator[Path]:
    """That of one system for all of these tests, which leaves nothing behind after all that was done to it."""
    others = set(psutil.Process().children(recursive=True))  # a server that all tests of the library share, say
    with wired_system() as state_dir:
        yield state_dir
        running = set(psutil.Process().children(recursive=True)) - others
        assert len(running) > len(processes.pids())
    assert [process for process in running if process.is_running()] == []


@pytest.fixture
def user() -> int:
    """A user of this test's own, with points."""
    return next(_users)


def call(method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    """Through the proxy before the gateway, as clients of a wired system come."""
    connection = http.client.HTTPConnection(toxics.proxies()["gateway"]["listen"], timeout=15)
    try:
        connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or "null")
    finally:
        connection.close()


def charge(user: int) -> int:
    return call("PATCH", "/api/v1/users/charge/point", {"userId": user, "point": 1})[0]


def balance(user: int) -> int:
    status, wallet = call("GET", f"/api/v1/users/{user}/wallet")
    assert status == 200
    amount: int = wallet["amount"]
    return amount


def probed(service: str, path: str) -> tuple[Any, str]:
    """What a service answers to a probe, and its `Date`."""
    connection = http.client.HTTPConnection("127.0.0.1", place.row(service)["port"], timeout=5)
    try:
        connection.request("GET", path)
        with connection.getresponse() as answer:
            return json.load(answer), str(answer.headers["Date"])
    finally:
        connection.close()


def answers(name: str) -> bool:
    """Whether what is behind the wire of a service answers at all, at once."""
    with socket.socket(socket.AF_UNIX) as wire:
        wire.settimeout(0.5)
        wire.connect(toxics.proxies()[name]["listen"].removeprefix("unix:"))
        wire.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            return wire.recv(8) == b"HTTP/1.1"
        except OSError:
            return False


def soon(condition: Callable[[], bool], what: str) -> None:
    place.wait_until(condition, BACK_S, what)


def pid_of(service: str) -> int:
    pid = processes.pids()[service]
    assert pid is not None
    return pid


def redis_client() -> "redis.Redis":
    return redis.Redis.from_url(place.address("REDIS_URL"), protocol=2)


def write_down(client: "redis.Redis", key: str) -> None:
    """Set a key that outlives a kill: Redis may answer up to two seconds before it hands its log to the file, while an
    earlier part is still on its way to the disk."""
    client.set(key, "1")
    soon(lambda: client.info("persistence")["aof_buffer_length"] == 0, "the log is in the file")


# Tests that kill Redis stand far apart: the supervisor waits longer before each start of what did not live long.


def test_redis_loses_the_end_or_everything_and_goes_back() -> None:
    with redis_client() as client:
        write_down(client, "first")
        path = redis_data.snapshot()["path"]
        client.set("second", "2" * 100)
    try:
        redis_data.tear(50)
        with redis_client() as client:
            assert (client.get("first"), client.get("second")) == (b"1", None)
        redis_data.lose()
        with redis_client() as client:
            assert client.get("first") is None
        redis_data.roll_back(path)
        with redis_client() as client:
            assert client.get("first") == b"1"
            client.delete("first")
    finally:
        shutil.rmtree(path)
    for service in ("queue", "reservation", "wallet"):
        processes.wait_ready(service)


# Processes.


@pytest.mark.parametrize("end", [processes.kill, processes.restart])
def test_a_process_that_is_ended_is_gone_and_comes_back_as_another(end: Callable[[str], dict[str, Any]]) -> None:
    before = pid_of("wallet")
    assert end("wallet") == {"pid": before}
    assert not psutil.pid_exists(before)
    processes.wait_ready("wallet")
    assert pid_of("wallet") != before


def test_a_paused_process_keeps_its_connections_and_its_pid(user: int) -> None:
    before = pid_of("wallet")
    processes.pause("wallet")
    assert place.row("wallet")["state"] == "paused"
    assert not answers("wallet")
    processes.resume("wallet")
    soon(lambda: charge(user) == 200, "the wallet answers again")
    assert pid_of("wallet") == before


def test_what_is_kept_down_is_away_for_that_long(user: int) -> None:
    began_s = time.monotonic()
    assert processes.keep_down("wallet", 1.0)["killed"] >= 1
    assert time.monotonic() - began_s >= 1.0
    processes.wait_ready("wallet")
    soon(lambda: charge(user) == 200, "the wallet answers again")


# Wires.


def test_there_is_a_proxy_on_every_wire_and_all_traffic_goes_through_it(user: int) -> None:
    assert set(toxics.proxies()) == {"redis", "queue", "catalog", "reservation", "wallet", "gateway"}
    for name in ("wallet", "gateway"):
        toxics.add(name, "latency", {"latency": 200})
    began_s = time.monotonic()
    assert charge(user) == 200
    assert time.monotonic() - began_s >= 0.4
    assert toxics.proxies()["wallet"]["toxics"][0]["touched"] >= 1
    toxics.remove("wallet", "latency_downstream")
    toxics.reset()
    assert [proxy["toxics"] for proxy in toxics.proxies().values()] == [[]] * 6


def test_the_services_reach_redis_through_the_proxy_only() -> None:
    def has_broker() -> bool:
        return bool(probed("wallet", "/readyz")[0]["dependencies"]["broker"] == "ok")

    soon(has_broker, "the wallet has Redis")
    toxics.down("redis")
    soon(lambda: not has_broker(), "the wallet misses Redis")
    toxics.up("redis")
    soon(has_broker, "the wallet has Redis back")


def test_a_cut_reply_loses_the_answer_and_not_the_charge(user: int) -> None:
    before = balance(user)
    toxics.add("gateway", "cut_reply")
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        charge(user)
    toxics.reset()
    assert balance(user) == before + 1


def test_a_half_open_wire_takes_everything_and_says_nothing_until_it_heals(user: int) -> None:
    toxics.half_open("wallet")
    assert not answers("wallet")
    toxics.mend("wallet")
    assert answers("wallet")
    soon(lambda: charge(user) == 200, "the wallet answers again")


# Clocks.


@possible(clock)
def test_the_clock_of_redis_jumps_runs_fast_and_is_right_again() -> None:
    def error_s() -> float:
        with redis_client() as client:
            return int(client.time()[0]) - time.time()

    clock.jump("redis", -HOUR_S)
    assert error_s() == pytest.approx(-HOUR_S, abs=2)
    clock.drift("redis", 3.0)
    first = error_s()
    assert first < 5
    time.sleep(1)
    assert error_s() - first == pytest.approx(2, abs=1.1)
    clock.restore("redis")
    assert error_s() == pytest.approx(0, abs=2)


@possible(clock)
def test_the_clock_of_one_service_jumps_and_no_other(user: int) -> None:
    def error_s(service: str) -> float:
        return parsedate_to_datetime(probed(service, "/healthz")[1]).timestamp() - time.time()

    clock.jump("wallet", HOUR_S)
    assert error_s("wallet") == pytest.approx(HOUR_S, abs=3)
    assert error_s("queue") == pytest.approx(0, abs=3)
    assert charge(user) == 200
    clock.restore("wallet")
    assert error_s("wallet") == pytest.approx(0, abs=3)


# Events.


def test_events_that_come_twice_in_any_order_change_nothing() -> None:
    bought = tickets.replayed(3)
    assert (bought["sent"], bought["refused"], bought["wrong"]) == (3, 3, [])
    before = balance(tickets.USER)

    def length() -> int:
        with redis_client() as client:
            return int(client.xlen(f"stagedoor:topic:{RESERVATION_PAYMENTS}"))

    known = length()
    assert known >= 1
    assert broker.repeat(RESERVATION_PAYMENTS, 10, seed=1) == {"published": min(10, known)}
    assert length() == known + min(10, known)
    assert broker.replay(RESERVATION_PAYMENTS, "wallet") == {"messages": length()}

    def is_finished() -> bool:
        with redis_client() as client:
            (group,) = client.xinfo_groups(f"stagedoor:topic:{RESERVATION_PAYMENTS}")
            last = client.xrevrange(f"stagedoor:topic:{RESERVATION_PAYMENTS}", count=1)[0][0]
            return bool(group["last-delivered-id"] == last and group["pending"] == 0)

    soon(is_finished, "the wallet has read everything again")
    assert balance(tickets.USER) == before


def test_poison_is_buried_exactly_and_taken_away_again() -> None:
    ids = poison.send(WALLET_PAYMENTS, seed=1)["ids"]
    assert len(ids) == len(poison.KINDS)
    soon(lambda: poison.letters(WALLET_PAYMENTS, "reservation")["ids"] == sorted(ids), "all of it is buried")
    assert poison.clear(WALLET_PAYMENTS) == {"removed": 2 * len(ids)}
    assert poison.letters(WALLET_PAYMENTS, "reservation") == {"ids": []}


@long
def test_a_broker_that_is_down_for_a_while_is_back_afterwards() -> None:
    before = pid_of("redis")
    assert broker.down(1.0)["seconds"] >= 1.0
    assert pid_of("redis") != before
    with redis_client() as client:
        assert client.ping()


@possible(limits)
def test_limits_are_lowered_on_a_process_that_runs_and_lifted_again(user: int) -> None:
    before = limits.shown("wallet")
    assert limits.open_files("wallet")["open"] >= limits.shown("wallet")["open_files"] > 0
    limits.file_size("wallet", 1)
    soon(lambda: charge(user) == 503, "the wallet cannot write")
    limits.lift("wallet")
    assert limits.shown("wallet") == before
    soon(lambda: charge(user) == 200, "the wallet can write again")


@possible(limits)
def test_a_service_that_gets_no_more_memory_is_not_ready_until_it_may_have_some() -> None:
    assert limits.memory("reservation", 2)["bytes"] < 2**30
    limits.lift("reservation")
    processes.wait_ready("reservation")


# Tickets.


@pytest.mark.parametrize(
    "attempt", [lambda: tickets.forged(60, seed=1), lambda: tickets.expired(3), lambda: tickets.shared(3)]
)
def test_tickets_that_are_not_good_are_refused_every_time(attempt: Callable[[], dict[str, Any]]) -> None:
    told = attempt()
    assert told["wrong"] == []
    assert told["refused"] == told["sent"] > 0


# Partitions.


@possible(partition)
def test_packets_vanish_both_ways_or_one_way_and_arrive_again(user: int) -> None:
    partition.lay(["wallet"])
    try:
        soon(lambda: charge(user) == 200, "the wallet answers through the namespace")
        for which in partition.CUTS:
            partition.cut(which)
            assert not answers("wallet")
            partition.heal()
            soon(lambda: answers("wallet"), "the wallet answers again")
    finally:
        partition.take_up()
    assert not [end for end in Path("/sys/class/net").iterdir() if end.name.startswith("sd")]
    soon(lambda: charge(user) == 200, "the wallet answers directly")


# Disks.


@possible(disk)
def test_a_redis_without_room_takes_no_more_and_forgets_nothing(state_dir: Path) -> None:
    with redis_client() as client:
        write_down(client, "kept")
    disk.shrink("redis", 32)
    assert (state_dir / "redis").is_mount()
    assert disk.fill("redis")["bytes"] > 2**20

    def is_refused() -> bool:
        with redis_client() as client, contextlib.suppress(redis.ResponseError):
            client.set("lost", "x" * 10_000)
            return False
        return True

    soon(is_refused, "Redis has no room")
    disk.clear("redis")
    soon(lambda: not is_refused(), "Redis has room")
    disk.unshrink("redis")
    assert not (state_dir / "redis").is_mount()
    with redis_client() as client:
        assert client.get("kept") == b"1"
        client.delete("kept", "lost")


@long
@possible(disk)
def test_a_full_disk_refuses_and_with_room_nothing_is_missing(state_dir: Path, user: int) -> None:
    store = state_dir / "store"
    before = balance(user)
    disk.shrink("store", 64)
    assert store.is_mount()
    assert disk.fill("store")["bytes"] > 2**20
    soon(lambda: charge(user) == 503, "the wallet has no room")
    disk.clear("store")
    soon(lambda: charge(user) == 200, "the wallet has room")
    disk.unshrink("store")
    assert not store.is_mount()
    soon(lambda: charge(user) == 200, "the wallet is back")
    assert balance(user) >= before + 2
