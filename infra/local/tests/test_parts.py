"""The small decisions: settings, back-off, which redis-server, and what a screen that takes nothing may hold up."""

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.local import settings
from infra.local.addresses import SCHEMES, check_url
from infra.local.display import LINES_MAX, Display
from infra.local.life import BACKOFF_MAX_S, backoff_after, exit_text
from infra.local.redis_server import find_redis_server, socket_url
from infra.local.settings import LocalSettings
from infra.local.table import service_table
from infra.local.tests.harness import until
from infra.native.kafka_server import KafkaPorts, kafka_child
from infra.native.provision import Jars
from libs.common.contract import catalog
from libs.common.errors import ConfigError
from libs.common.messaging import opening
from libs.common.storage.opening import open_store
from libs.common.system import SystemClock


def test_every_port_follows_port_and_each_can_be_moved() -> None:
    ports = LocalSettings.from_environment({"PORT": "9000", "QUEUE_PORT": "7000"}).ports
    assert ports == {
        "gateway": 9000,
        "admin": 9010,
        "queue": 7000,
        "catalog": 9012,
        "reservation": 9013,
        "wallet": 9014,
    }


def test_each_further_copy_listens_twenty_higher_also_where_a_port_was_moved() -> None:
    ports = LocalSettings.from_environment({"PORT": "9000", "QUEUE_PORT": "7000", "COPIES": "3"}).ports
    assert (ports["gateway-2"], ports["admin-2"], ports["wallet-3"]) == (9020, 9030, 9054)
    assert (ports["queue-2"], ports["queue-3"]) == (7020, 7040)
    assert len(ports) == 18


def test_native_backends_follow_port_unless_a_url_names_them(tmp_path: Path) -> None:
    native = {"BACKENDS": "native", "PORT": "9000", "STATE_DIR": str(tmp_path)}
    settings = LocalSettings.from_environment(native)
    assert (settings.broker_url, settings.store_url) == ("kafka://127.0.0.1:9015", "mongodb://127.0.0.1:9017/stagedoor")
    assert settings.ports["kafka_controller"] == 9016
    named = LocalSettings.from_environment({**native, "STORE_URL": "mongodb://db/x", "BROKER_URL": "kafka://k:9092"})
    assert (named.broker_url, named.store_url) == ("kafka://k:9092", "mongodb://db/x")
    assert not {"kafka", "mongo"} & named.ports.keys()
    assert settings.store_identity == LocalSettings.from_environment({**native, "PORT": "9100"}).store_identity


def test_clients_of_kafka_are_sent_to_what_stands_in_front_of_it(tmp_path: Path) -> None:
    native = {"BACKENDS": "native", "PORT": "9000", "STATE_DIR": str(tmp_path)}
    assert LocalSettings.from_environment(native).kafka_advertised_port == 9015
    settings = LocalSettings.from_environment({**native, "KAFKA_ADVERTISED_PORT": "9999"})
    kafka_child(Jars("java", tmp_path), tmp_path, KafkaPorts(9015, 9016, settings.kafka_advertised_port))
    told = (tmp_path / "server.properties").read_text()
    assert "\nlisteners=PLAINTEXT://127.0.0.1:9015," in told
    assert "\nadvertised.listeners=PLAINTEXT://127.0.0.1:9999\n" in told


def test_clocks_count_as_apart_where_more_than_one_process_decides() -> None:
    def skew_s(**environment: str) -> str:
        return LocalSettings.from_environment(environment).clock_skew_s

    assert skew_s() == "0"
    assert skew_s(COPIES="2") == skew_s(BACKENDS="native") == skew_s(STORE_URL="mongodb://db") == "2"
    assert skew_s(COPIES="2", CLOCK_SKEW_S="0.5") == "0.5"


def test_a_socket_is_looked_for_under_the_name_that_its_clients_read(tmp_path: Path) -> None:
    folder = tmp_path / "my run, 한"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "redis.sock"))
        server.listen()
        asyncio.run(check_url("REDIS_URL", socket_url(folder / "redis.sock")))


def test_the_folder_of_kafka_is_written_as_java_reads_it(tmp_path: Path) -> None:
    kafka_child(Jars("java", tmp_path), tmp_path / "한\\n", KafkaPorts(9015, 9016))
    told = (tmp_path / "한\\n" / "server.properties").read_bytes()
    assert b"\\ud55c\\\\n/log\n" in told


def test_the_schemes_that_are_looked_at_are_those_that_the_adapters_know() -> None:
    broker = set(opening.SCHEMES) - {"memory"}  # which cannot carry events between processes
    assert set(SCHEMES["BROKER_URL"]) == broker
    for scheme in SCHEMES["STORE_URL"]:
        open_store(f"{scheme}:///x" if scheme == "sqlite" else f"{scheme}://x", "any", SystemClock())


def test_the_store_is_an_absolute_folder_inside_state_dir(tmp_path: Path) -> None:
    assert LocalSettings.from_environment({"STATE_DIR": str(tmp_path)}).store_url == f"sqlite:///{tmp_path}/store"
    assert LocalSettings.from_environment({}).store_url == f"sqlite:///{Path.cwd()}/.run/store"


def test_static_tokens_are_the_demos_only_where_the_environment_says_nothing() -> None:
    assert LocalSettings.from_environment({}).static_tokens == "test-token"
    assert LocalSettings.from_environment({"STATIC_TOKENS": ""}).static_tokens == ""
    assert LocalSettings.from_environment({"STATIC_TOKENS": "a,b"}).static_tokens == "a,b"


@pytest.mark.parametrize(
    "wrong",
    [
        {"PORT": "65530"},
        {"PORT": "-1"},
        {"PORT": "65500", "COPIES": "9"},
        {"QUEUE_PORT": "8080"},
        {"QUEUE_PORT": "8092", "COPIES": "2", "CATALOG_PORT": "8112"},
        {"DEMO_SCHEDULES": "30", "DEMO_SEATS": "20000"},
        {"COPIES": "0"},
        {"COPIES": "10"},
        {"COPIES": "2", "STORE_URL": "memory://"},
        {"BACKENDS": "docker"},
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused_by_name(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"^(PORT|DEMO_SCHEDULES|COPIES|STORE_URL|BACKENDS)\b"):
        LocalSettings.from_environment(wrong)


def test_the_demo_is_bounded_as_the_catalog_is() -> None:
    assert (settings.SCHEDULES_MAX, settings.SEATS_MAX) == (catalog.SCHEDULES_MAX, catalog.SEATS_MAX)


def test_back_off_doubles_to_its_bound_and_forgets_after_a_good_life() -> None:
    waits, next_s = [], 0.2
    for _ in range(7):
        wait_s, next_s = backoff_after(next_s, alive_s=1)
        waits.append(wait_s)
    assert waits == [0.2, 0.4, 0.8, 1.6, 3.2, BACKOFF_MAX_S, BACKOFF_MAX_S]
    assert backoff_after(next_s, alive_s=30) == (0.2, 0.4)


def test_an_exit_is_told_with_its_signal() -> None:
    assert (exit_text(3), exit_text(-9)) == ("exit code 3", "exit code -9 (SIGKILL)")


def _fake_server(folder: Path, name: str, version: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho 'Server v={version} sha=0'\n")
    path.chmod(0o755)
    return path


def test_a_valkey_on_the_path_will_do_and_an_old_redis_will_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.local.redis_server._in_wheel", lambda: None)
    old = _fake_server(tmp_path, "redis-server", "6.0.16")
    with pytest.raises(ConfigError, match=f"{old} is too old"):
        find_redis_server(str(tmp_path))
    valkey = _fake_server(tmp_path, "valkey-server", "8.1.0")
    assert find_redis_server(str(tmp_path)) == valkey


@contextmanager
def _standard_output_to(descriptor: int) -> Iterator[None]:
    kept = os.dup(1)
    os.dup2(descriptor, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def test_a_screen_that_takes_nothing_holds_up_nobody(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    with _standard_output_to(write_end):
        display = Display(tmp_path / "log")
        display.start(list, terminal=False)
        for number in range(LINES_MAX * 3):
            display.say(f"{number} " + "x" * 100)
        assert not display.close()
        drain = threading.Thread(
            target=lambda: [None for _ in iter(lambda: os.read(read_end, 65536), b"")], daemon=True
        )
        drain.start()
        until(lambda: "display" not in [thread.name for thread in threading.enumerate()])
    os.close(write_end)
    drain.join(5)
    os.close(read_end)
    assert len((tmp_path / "log").read_text().splitlines()) == LINES_MAX * 3


def test_the_table_has_a_row_for_what_runs_and_for_what_does_not() -> None:
    running = {"name": "queue", "pid": 7, "port": 8091, "state": "ready", "restarts": 0}
    rows = [
        {**running, "uptimeS": 3723.0, "rssBytes": 2**20 * 30, "cpuPercent": 1.5},
        {**running, "pid": None, "state": "waiting", "uptimeS": None, "rssBytes": None, "cpuPercent": None},
    ]
    cells = [list(column.cells) for column in service_table(rows).columns]
    assert cells[1] == ["7", "–"]
    assert [str(cell) for cell in cells[3]] == ["ready", "waiting"]
    assert cells[5:] == [["1:02:03", "–"], ["30 MiB", "–"], ["2 %", "–"]]
