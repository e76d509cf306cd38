"""A Kafka of librdkafka's own, inside this process, that can do what a real one does only in a bad night.

It is the mock cluster in the library of the confluent-kafka wheel, told what to do through ctypes. It keeps everything
in memory and gives a group one member: it shows what our client does, and nothing about durability. One at a time;
what connects to it may be in another process, and ends with this one.
"""

import ctypes
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.common.errors import ConfigError
from libs.common.events.topics import TOPICS
from libs.common.messaging.kafka.records import letters_topic
from loadtest.chaos.actions.place import Needs

PRODUCER = 0
ERROR_BYTES = 512
BROKERS_COUNT_MAX = 10
PARTITIONS = 4

ERRORS = {
    "none": 0,
    "offset_out_of_range": 1,
    "leader_not_available": 5,
    "not_leader_for_partition": 6,
    "request_timed_out": 7,
    "coordinator_load_in_progress": 14,
    "coordinator_not_available": 15,
    "not_coordinator": 16,
    "not_enough_replicas": 19,
    "rebalance_in_progress": 27,
}
"""Kafka's names and numbers of what a broker may answer."""

REQUESTS = {
    "produce": 0,
    "fetch": 1,
    "list_offsets": 2,
    "metadata": 3,
    "offset_commit": 8,
    "offset_fetch": 9,
    "find_coordinator": 10,
    "join_group": 11,
    "heartbeat": 12,
    "sync_group": 14,
}


@dataclass(slots=True)
class _Cluster:
    library: Any
    handle: ctypes.c_void_p
    cluster: ctypes.c_void_p


_running: list[_Cluster] = []


def needs() -> Needs:
    """The library of the confluent-kafka wheel."""
    if _library_path() is None:
        return {"confluent-kafka": "the confluent-kafka wheel is not installed, or carries no librdkafka"}
    return {}


def start(brokers: int = 3) -> dict[str, str]:
    """Start it with every topic of the product; its `url` is a BROKER_URL. Undo: `stop`."""
    if _running:
        raise ConfigError("a mock broker runs already; stop it first")
    if not 1 <= brokers <= BROKERS_COUNT_MAX:
        raise ConfigError(f"brokers: expected 1 to {BROKERS_COUNT_MAX} (given: {brokers})")
    library = _library()
    said = ctypes.create_string_buffer(ERROR_BYTES)
    quiet = ctypes.c_void_p(library.rd_kafka_conf_new())  # the handle only carries the mock, and need not say so
    library.rd_kafka_conf_set(quiet, b"log_level", b"0", said, ERROR_BYTES)
    handle = library.rd_kafka_new(PRODUCER, quiet, said, ERROR_BYTES)
    if not handle:
        raise ConfigError(f"librdkafka does not start: {said.value.decode()}")
    cluster = library.rd_kafka_mock_cluster_new(handle, brokers)
    _running.append(_Cluster(library, ctypes.c_void_p(handle), ctypes.c_void_p(cluster)))
    library.rd_kafka_mock_group_initial_rebalance_delay_ms(_running[0].cluster, 0)
    for topic in TOPICS.values():
        for name in (topic.name, *(letters_topic(topic.name, group) for group in topic.groups)):
            _do("topic_create", ctypes.c_char_p(name.encode()), PARTITIONS, min(brokers, 3))
    servers: bytes = library.rd_kafka_mock_cluster_bootstraps(_running[0].cluster)
    return {"url": f"kafka://{servers.decode()}"}


def stop() -> None:
    """End it; it may have ended already."""
    for running in _running:
        running.library.rd_kafka_mock_cluster_destroy(running.cluster)
        running.library.rd_kafka_destroy(running.handle)
    _running.clear()


def down(broker: int) -> None:
    """Broker 1, 2 …: connections end and are refused. Undo: `up`."""
    _do("broker_set_down", broker)


def up(broker: int) -> None:
    """It takes connections again."""
    _do("broker_set_up", broker)


def slow(milliseconds: int, broker: int = -1) -> None:
    """Every answer is so late; of all brokers when none is named. Undo: the same with 0."""
    _do("broker_set_rtt", broker, milliseconds)


def refuse(request: str, error: str, count: int) -> None:
    """Answer the next `count` requests of a kind with an error. They pass by themselves."""
    if request not in REQUESTS or error not in ERRORS:
        known = f"requests {', '.join(REQUESTS)}; errors {', '.join(ERRORS)}"
        raise ConfigError(f"request, error: {request!r}, {error!r} are not among these: {known}")
    errors = (ctypes.c_int * count)(*[ERRORS[error]] * count)
    _call("push_request_errors_array", ctypes.c_int16(REQUESTS[request]), ctypes.c_size_t(count), errors)


def move_coordinator(group: str, broker: int) -> None:
    """Another broker coordinates a Kafka group (`<topic>.<group>`) from now on. Undo: the same with the former one."""
    _do("coordinator_set", ctypes.c_char_p(b"group"), ctypes.c_char_p(group.encode()), broker)


def _do(verb: str, *words: Any) -> None:
    """One verb of the mock's that says by 0 that it was done."""
    code = _call(verb, *words)
    if code:
        raise ConfigError(f"the mock broker does not do {verb}: {code}")


def _call(verb: str, *words: Any) -> Any:
    if not _running:
        raise ConfigError("no mock broker runs; start one first")
    running = _running[0]
    return getattr(running.library, f"rd_kafka_mock_{verb}")(running.cluster, *words)


def _library() -> Any:
    path = _library_path()
    if path is None:
        raise ConfigError(needs()["confluent-kafka"])
    library = ctypes.CDLL(str(path))
    for name, result in (
        ("rd_kafka_conf_new", ctypes.c_void_p),
        ("rd_kafka_new", ctypes.c_void_p),
        ("rd_kafka_mock_cluster_new", ctypes.c_void_p),
        ("rd_kafka_mock_cluster_bootstraps", ctypes.c_char_p),
    ):
        getattr(library, name).restype = result
    for name in (
        "rd_kafka_destroy",
        "rd_kafka_mock_cluster_destroy",
        "rd_kafka_mock_group_initial_rebalance_delay_ms",
        "rd_kafka_mock_push_request_errors_array",
    ):
        getattr(library, name).restype = None
    library.rd_kafka_mock_cluster_new.argtypes = (ctypes.c_void_p, ctypes.c_int)
    return library


def _library_path() -> Path | None:
    spec = importlib.util.find_spec("confluent_kafka")
    if spec is None or spec.origin is None:
        return None
    beside = Path(spec.origin).parents[1] / "confluent_kafka.libs"
    return next(iter(sorted(beside.glob("librdkafka*.so*"))), None)
