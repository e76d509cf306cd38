"""An action that had no effect says so, one that fails half-way takes back what it did; without a running system."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from aiohttp.test_utils import TestServer

from libs.common.errors import ConfigError
from libs.common.events.topics import RESERVATION_PAYMENTS
from loadtest.chaos import steps
from loadtest.chaos.actions import (
    broker,
    bus,
    clock,
    disk,
    kafka_topics,
    limits,
    partition,
    place,
    processes,
    redis_data,
    redis_topics,
    toxics,
)
from loadtest.chaos.files import FOLDER
from loadtest.chaos.proxy.control import Control


@pytest.fixture(autouse=True)
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a system that does not run."""
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[psutil.Process]:
    """One that is always ready, as far as its supervisor knows, and is every service."""
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as started:
        assert started.stdout is not None
        started.stdout.readline()
        process = psutil.Process(started.pid)
        monkeypatch.setattr(place, "row", lambda _: {"pid": started.pid, "state": "ready", "port": 9})
        yield process
        started.kill()


# Wires.


@pytest.fixture
async def control(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """A fault proxy with one wire, and nobody on it."""
    proxies = Control()
    async with TestServer(proxies.app()) as server:
        monkeypatch.setenv("CHAOS_CONTROL", f"127.0.0.1:{server.port}")
        yield
        await proxies.close()


@pytest.mark.usefixtures("control")
async def test_a_toxic_that_nobody_met_is_taken_off_and_was_no_fault() -> None:
    def on_a_wire_without_anybody() -> None:
        toxics.make("wallet", "127.0.0.1:0", "127.0.0.1:9")
        toxics.add("wallet", "latency", {"latency": 100}, name="slow")
        with pytest.raises(ConfigError, match="slow: nothing on the wire wallet has met it"):
            toxics.remove("wallet", "slow")
        toxics.half_open("wallet")
        with pytest.raises(ConfigError, match="half_open: nothing was on the wire wallet"):
            toxics.mend("wallet")
        assert toxics.proxies()["wallet"]["toxics"] == []

    await asyncio.to_thread(on_a_wire_without_anybody)


def test_a_namespace_does_not_outlast_the_proxy_of_a_system_that_was_killed(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[tuple[str, ...]] = []
    monkeypatch.setattr(partition, "_ip", lambda *words: removed.append(words[:2]))
    monkeypatch.setenv("CHAOS_CONTROL", "127.0.0.1:9")
    (state_dir / "wired").mkdir()
    record = state_dir / "wired" / "partition.json"
    record.write_text('{"pid": 0, "upstreams": {"wallet": "unix:/nowhere"}}')
    with pytest.raises(ConfigError, match="no fault proxy answers"):
        partition.take_up()
    assert removed == [("link", "del"), ("netns", "del")]
    assert not record.exists()


# Events.


def test_of_an_empty_topic_nothing_can_be_repeated_or_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def none(*_: Any) -> list[Any]:
        return []

    async def zero(*_: Any) -> int:
        return 0

    monkeypatch.setattr(bus, "url_of", lambda: "redis://nowhere")
    monkeypatch.setattr(bus, "with_bus", lambda _: None)
    monkeypatch.setattr(redis_topics, "last", none)
    monkeypatch.setattr(redis_topics, "rewind", zero)
    with pytest.raises(ConfigError, match="nobody has published anything to reservation"):
        broker.repeat(RESERVATION_PAYMENTS, 300, seed=1)
    with pytest.raises(ConfigError, match="nobody has published anything to reservation"):
        broker.replay(RESERVATION_PAYMENTS, "wallet")


def test_when_one_member_of_a_group_cannot_be_paused_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    paused: set[str] = set()

    def pause(name: str) -> None:
        if name == "wallet-2":
            raise ConfigError("wallet-2 is not running at the moment")
        paused.add(name)

    monkeypatch.setattr(bus, "url_of", lambda: "kafka://nowhere")
    monkeypatch.setattr(place, "rows", lambda: {"wallet": {}, "wallet-2": {}, "queue": {}})
    monkeypatch.setattr(processes, "pause", pause)
    monkeypatch.setattr(processes, "resume", paused.discard)
    monkeypatch.setattr(kafka_topics, "rewind", None)
    with pytest.raises(ConfigError, match="wallet-2 is not running"):
        broker.replay(RESERVATION_PAYMENTS, "wallet")
    assert paused == set()


def test_from_an_empty_log_nothing_can_be_torn_off(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = state_dir / "appendonly.aof"
    monkeypatch.setattr(redis_data, "_while_down", lambda change: change(state_dir))
    log.write_bytes(b"x" * 100)
    redis_data.tear(30)
    assert log.stat().st_size == 70
    redis_data.tear(1000)
    with pytest.raises(ConfigError, match="is empty"):
        redis_data.tear(30)


# Processes.


@pytest.mark.skipif(bool(limits.needs()), reason="only Linux can set the limits of a process that runs")
def test_descriptors_are_limited_to_those_that_are_open_and_somebody_has_to_feel_it(
    process: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FELT_S", 0.1)
    with pytest.raises(ConfigError, match=r"not within 0\.1 s: wallet cannot take a new connection"):
        limits.open_files("wallet")
    assert limits.shown("wallet")["open_files"] == process.num_fds()


@pytest.mark.skipif(bool(limits.needs()), reason="only Linux can set the limits of a process that runs")
def test_memory_is_limited_to_little_more_than_it_has_and_somebody_has_to_feel_it(
    process: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FELT_S", 0.1)
    with pytest.raises(ConfigError, match=r"not within 0\.1 s: wallet has not the memory for all who come"):
        limits.memory("wallet", 2)
    assert 0 < limits.shown("wallet")["memory"] - process.memory_info().data <= 2 * 2**20


@pytest.mark.skipif(bool(limits.needs()), reason="only Linux can set the limits of a process that runs")
def test_a_process_that_is_being_started_anew_has_no_limits_to_lift(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "row", lambda _: {"pid": None, "state": "waiting"})
    limits.lift("wallet")


@pytest.mark.usefixtures("process")
def test_a_clock_that_its_process_does_not_read_is_not_set(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "BACK_S", 0.1)
    clock.folder().mkdir(parents=True)
    (clock.folder() / "wallet").write_text(clock.RIGHT)
    with pytest.raises(ConfigError, match="wallet runs with libfaketime"):
        clock.jump("wallet", 3600)


# Two at a time.


def test_one_of_two_faults_is_played_without_its_rollbacks(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = yaml.safe_load((FOLDER / "F04-redis-killed.yaml").read_text())
    harmless = {"type": "python", "module": "os", "func": "getpid"}
    content["method"] = [{"type": "action", "name": "a fault", "provider": harmless}]
    content["rollbacks"] = [{"type": "action", "name": "everything is as before", "provider": harmless}]
    (state_dir / "F04-harmless.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setattr(steps, "FOLDER", state_dir)
    assert steps.play("F04-harmless", seed=1) == ["a fault"]


@pytest.mark.parametrize("name", [path.stem for path in sorted(FOLDER.glob("F0[678]-*.yaml"))])
def test_where_a_wire_of_the_wallet_or_the_catalog_is_disturbed_somebody_needs_it(name: str) -> None:
    content = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    method = content["method"]
    variants = content["extensions"][0]["variants"]
    wires = {each.get("wire") for each in variants} | {
        wire for step in method for wire in step["provider"].get("arguments", {}).get("proxies", [])
    }
    if wires & {"wallet", "catalog"}:
        assert "shop" in [step["provider"]["func"] for step in method]


# Disks.


def test_a_file_that_is_mostly_a_hole_takes_no_more_room_where_it_is_moved(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for folder in (source / "topic-0", target):
        folder.mkdir(parents=True)
    index = source / "topic-0" / "00000.index"
    index.write_bytes(b"an entry")
    with index.open("rb+") as file:
        file.truncate(10_000_000)
    disk._copy(source, target)
    moved = target / "topic-0" / "00000.index"
    assert moved.read_bytes() == index.read_bytes()
    assert moved.stat().st_blocks * 512 < 100_000
