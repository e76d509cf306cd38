"""BACKENDS=native as `make run` runs it, with fakes for the services: a real Kafka, the stand-in for MongoDB."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pymongo
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from pymongo.errors import DuplicateKeyError

from infra.local.tests.harness import ROOT, FakeSystem, command_line, free_port, until
from infra.native.provision import parts

TOPIC = "reservation.payments.v1"


@pytest.fixture(scope="module", autouse=True)
def fetched() -> None:
    missing = [f"{part.name}: {part.missing}" for part in parts() if part.missing and "prometheus" not in part.name]
    if missing and os.environ.get("REQUIRE_REAL") == "1":
        pytest.fail("; ".join(missing))
    if missing:
        pytest.skip("; ".join(missing))


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeSystem]:
    with FakeSystem(tmp_path_factory.mktemp("native") / "run", BACKENDS="native") as running:
        yield running.ready()


def ended(system: FakeSystem, name: str, verb: str) -> None:
    """`kill` as a crash would end it, `restart` as an operator; back when this returns."""
    pid = system.row(name)["pid"]
    system.ask(verb, name)
    until(lambda: system.has_new_life(name, pid), 20)


def published(port: int, values: list[bytes]) -> None:
    """Every value acknowledged by the broker."""

    async def publish() -> None:
        async with AIOKafkaProducer(bootstrap_servers=f"127.0.0.1:{port}") as producer:
            for value in values:
                await producer.send_and_wait(TOPIC, value, partition=0)

    asyncio.run(publish())


def kept(port: int) -> list[bytes]:
    """All that partition 0 of the topic holds."""

    async def read() -> list[bytes]:
        async with AIOKafkaConsumer(bootstrap_servers=f"127.0.0.1:{port}") as consumer:
            partition = TopicPartition(TOPIC, 0)
            consumer.assign([partition])
            await consumer.seek_to_beginning(partition)
            end = (await consumer.end_offsets([partition]))[partition]
            return [(await consumer.getone()).value or b"" for _ in range(end)]

    return asyncio.run(asyncio.wait_for(read(), 20))


def test_the_services_are_told_where_their_own_kafka_and_mongo_are(system: FakeSystem) -> None:
    names = [line.split()[0] for line in system.lines if " pid " in line]
    assert names == ["redis", "mongo", "kafka", "queue", "catalog", "reservation", "wallet", "gateway"]
    told = json.loads((system.state_dir / "logs" / "wallet.log").read_text().splitlines()[0])
    assert told["BROKER_URL"] == f"kafka://127.0.0.1:{system.port + 15}"
    assert told["STORE_URL"] == f"mongodb://127.0.0.1:{system.port + 17}/stagedoor"
    assert told["CLOCK_SKEW_S"] == "2"
    assert any("stand-in" in line for line in system.lines)


@pytest.mark.parametrize("verb", ["kill", "restart"])
def test_what_kafka_acknowledged_survives_its_end(system: FakeSystem, verb: str) -> None:
    before = [b"%d" % number for number in range(100)]
    published(system.port + 15, before)
    ended(system, "kafka", verb)
    assert kept(system.port + 15)[-100:] == before


@pytest.mark.parametrize("verb", ["kill", "restart"])
def test_what_the_stand_in_acknowledged_survives_its_end_unique_keys_included(system: FakeSystem, verb: str) -> None:
    client: pymongo.MongoClient[dict[str, object]] = pymongo.MongoClient(f"mongodb://127.0.0.1:{system.port + 17}")
    with client:
        books = client["native_test"][f"books_{verb}"]
        books.create_index("key", unique=True, sparse=True)
        for number in range(200):
            books.insert_one({"_id": number, "key": f"k{number}"})
            books.update_one({"_id": number}, {"$set": {"read": True}})
        ended(system, "mongo", verb)
        assert books.count_documents({"read": True}) == 200
        with pytest.raises(DuplicateKeyError):
            books.insert_one({"_id": 200, "key": "k199"})


def test_a_stop_leaves_no_process_and_another_port_finds_the_same_data(tmp_path: Path) -> None:
    state_dir = tmp_path / "run"
    with FakeSystem(state_dir, BACKENDS="native") as system:
        system.ready()
        published(system.port + 15, [b"kept"])
        assert system.terminate() == 0
        assert system.processes() == []
    with FakeSystem(state_dir, BACKENDS="native") as again:
        again.ready()
        assert kept(again.port + 15) == [b"kept"]
        assert not any("demo data loaded" in line for line in again.lines)
        again.process.kill()
        again.all_gone()


def test_serve_tells_a_command_where_both_are_and_ends_as_it_ends() -> None:
    say_and_fail = 'echo "$TEST_KAFKA_URL $TEST_MONGO_URL"; exit 3'
    served = subprocess.run(
        [sys.executable, "-m", "infra.native", "serve", "--", "/bin/sh", "-c", say_and_fail],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert served.returncode == 3, served.stderr
    kafka, mongo, told = served.stdout.splitlines()
    assert re.fullmatch(r"kafka://127\.0\.0\.1:\d+ mongodb://127\.0\.0\.1:\d+", told)
    pids = [int(line.split()[2]) for line in (kafka, mongo)]
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_what_a_url_names_is_not_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        url = f"kafka://127.0.0.1:{elsewhere.getsockname()[1]}"
        with FakeSystem(tmp_path / "run", BACKENDS="native", BROKER_URL=url) as system:
            system.ready()
            assert "kafka" not in [row["name"] for row in system.ask("status")["services"]]
            assert system.row("mongo")["state"] == "ready"


def test_a_topic_step_that_fails_ends_the_start_with_its_own_words(tmp_path: Path) -> None:
    port = free_port()
    refused = command_line(tmp_path / "run", "run", PORT=str(port), BACKENDS="native", KAFKA_REPLICAS="5")
    assert refused.returncode == 1
    assert refused.stderr.startswith("topics: ")
    assert refused.stderr.count("\n") == 1
