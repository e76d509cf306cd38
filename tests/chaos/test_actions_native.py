"""The actions on a real Kafka behind the proxy. Slow, so only where CHAOS_LONG=1 asks for it."""

import json
import os
from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from infra.native.provision import parts
from libs.common.events.topics import RESERVATION_PAYMENTS, WALLET_PAYMENTS
from loadtest.chaos.actions import bus, kafka_topics, place, poison, processes, tickets, toxics
from loadtest.chaos.actions.broker import bounce, repeat, replay
from tests.chaos.wired import wired_system

_missing = [f"{part.name}: {part.missing}" for part in parts() if part.missing and "prometheus" not in part.name]

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.environ.get("CHAOS_LONG") != "1", reason="CHAOS_LONG is not 1: it takes a minute and a half"),
    pytest.mark.skipif(bool(_missing), reason="; ".join(_missing)),
]

BACK_S = 40.0
"""Longer than a member's session: what stood still for a while may have lost its partitions."""


@pytest.fixture(scope="module", autouse=True)
def system() -> Iterator[None]:
    with wired_system(BACKENDS="native"):
        yield


def ledger() -> list[Any]:
    """All entries of the user who bought."""
    path = f"/api/v1/users/{tickets.USER}/wallet/entries?limit=200"
    with urlopen(f"{place.address('GATEWAY_URL')}{path}", timeout=10) as answer:  # noqa: S310 (our own gateway)
        entries: list[Any] = json.load(answer)["entries"]
    return entries


def finished(topic: str, group: str) -> bool:
    """Whether the group has nothing left to read."""
    return bus.run(kafka_topics.lag(bus.url_of(), topic, group)) == 0


def handled(topic: str, service: str) -> float:
    """How many events of a topic the service has handled since it began."""
    with urlopen(f"http://127.0.0.1:{place.row(service)['port']}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    samples = [sample for family in families for sample in family.samples]
    return sum(
        sample.value
        for sample in samples
        if sample.name == "stagedoor_event_handling_seconds_count" and sample.labels["topic"] == topic
    )


def test_clients_come_to_kafka_and_mongodb_through_the_proxy() -> None:
    for name in ("kafka", "mongo"):
        toxics.add(name, "latency", {"latency": 1})
    assert tickets.replayed(1)["wrong"] == []
    touched = {name: proxy["toxics"][0]["touched"] for name, proxy in toxics.proxies().items() if proxy["toxics"]}
    toxics.reset()
    assert touched["kafka"] >= 4
    assert touched["mongo"] >= 4


def test_events_that_come_twice_in_any_order_change_nothing() -> None:
    entries = ledger()
    assert repeat(RESERVATION_PAYMENTS, 10, seed=1)["published"] >= 1
    place.wait_until(lambda: finished(RESERVATION_PAYMENTS, "wallet"), BACK_S, "the wallet has read all copies")
    before = handled(RESERVATION_PAYMENTS, "wallet")
    count = replay(RESERVATION_PAYMENTS, "wallet")["messages"]
    assert count >= 2
    place.wait_until(
        lambda: handled(RESERVATION_PAYMENTS, "wallet") >= before + count,
        BACK_S,
        "the wallet has read everything again",
    )
    assert ledger() == entries


def test_poison_is_buried_exactly_and_taken_away_again() -> None:
    ids = poison.send(WALLET_PAYMENTS, seed=1)["ids"]
    place.wait_until(
        lambda: poison.letters(WALLET_PAYMENTS, "reservation")["ids"] == sorted(ids), BACK_S, "all of it is buried"
    )
    assert poison.clear(WALLET_PAYMENTS) == {"removed": len(ids)}
    assert poison.letters(WALLET_PAYMENTS, "reservation") == {"ids": []}


def test_a_broker_that_was_killed_serves_again() -> None:
    bounce()
    assert tickets.replayed(1)["wrong"] == []
    assert processes.pids()["kafka"] is not None
