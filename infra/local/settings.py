"""Every knob of `make run`, read from the environment and checked once.

Plain dataclasses on purpose: the settings library of the services costs half a second to import, and a warm start
has five for everything.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from infra.native.kafka_server import kafka_url
from infra.native.mongo_server import mongo_url
from libs.common.errors import ConfigError
from libs.common.ids import INTEGER_MAX

ROOMS = ("queue", "catalog", "reservation", "wallet", "gateway")
"""In the order in which `make run` names them."""

DEMO_TOKEN = "test-token"  # noqa: S105 (it is public: load tests use it, and every start says so)
DATABASE = "stagedoor"
"""In the stand-in for MongoDB: what the names of the services' own databases begin with."""

DEMO_SEATS_TOTAL_MAX = 500_000

# The catalog's own bounds, repeated because its contract takes half a second to import; a test compares them.
SCHEDULES_MAX = 1_000
SEATS_MAX = 20_000

BACKENDS = ("embedded", "native")
COPIES_MAX = 9

PORTS_PER_COPY = 20
"""The second copy of everything listens this much above the first, and so on."""

_ROOM_PORTS = {"gateway": 0, "admin": 10, "queue": 11, "catalog": 12, "reservation": 13, "wallet": 14}
METRICS_PORTS = {room: _ROOM_PORTS["admin" if room == "gateway" else room] for room in ROOMS}
"""Where each room's page of metrics is, above the first port of its copy."""

_NOT_IN_A_URL = frozenset(",?#\t\r\n")
"""A comma ends an address, the others a path: the rest of the name would be lost without a word."""

_KAFKA_PORTS = {"kafka": 15, "kafka_controller": 16}
_MONGO_PORTS = {"mongo": 17}


@dataclass(frozen=True, slots=True)
class DemoFigures:
    """How much demo data the first start loads. `seats` is per schedule, `points` per wallet."""

    schedules: int = 20
    seats: int = 50
    users: int = 1000
    points: int = 10_000_000


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """`ports` has the TCP port of each process by its name (`queue`, `queue-2` …), the gateway's inner one as `admin`,
    and those of `kafka` and `mongo` where the system runs its own; `environment` is the user's own, passed on."""

    state_dir: Path
    copies: int
    ports: Mapping[str, int]
    demo: DemoFigures
    redis_url: str | None
    broker_url: str | None
    store_url: str
    environment: Mapping[str, str]

    @property
    def public_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['gateway']}"

    @property
    def static_tokens(self) -> str:
        """What the environment says, even when that is nothing; the demo's token where it says nothing at all."""
        return self.environment.get("STATIC_TOKENS", DEMO_TOKEN)

    @property
    def clock_skew_s(self) -> str:
        """The largest error between two deciding clocks, unless the environment says otherwise: none where one process
        of each service decides for itself."""
        alone = self.copies == 1 and self.store_url.startswith(("sqlite:", "memory:"))
        return self.environment.get("CLOCK_SKEW_S") or ("0" if alone else "2")

    @property
    def rules(self) -> dict[str, str]:
        """What whoever judges the system from outside has to know of its settings."""
        return {
            "CLOCK_SKEW_S": self.clock_skew_s,
            "MAX_SEATS_PER_USER": _text(self.environment, "MAX_SEATS_PER_USER") or "",
            "STATIC_TOKENS": self.static_tokens,
        }

    @property
    def kafka_advertised_port(self) -> int:
        """Where the clients of this system's own Kafka are told to come: for what stands in front of it."""
        return _integer(self.environment, "KAFKA_ADVERTISED_PORT", self.ports["kafka"], (1, 65535))

    @property
    def store_identity(self) -> str:
        """What tells this store from another one. A store of the system's own is where STATE_DIR is, at any port."""
        return "native" if "mongo" in self.ports else self.store_url

    def names(self, part: str) -> list[str]:
        """The names of all copies of a room, or of the gateway's `admin`: `queue`, `queue-2` …"""
        return [copy_name(part, number) for number in range(1, self.copies + 1)]

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "LocalSettings":
        """Raises ConfigError with one sentence that names the first wrong setting."""
        state = state_dir(environment)
        backends = _text(environment, "BACKENDS") or BACKENDS[0]
        if backends not in BACKENDS:
            raise ConfigError(f"BACKENDS: expected {' or '.join(BACKENDS)} (given: {backends!r})")
        copies = _integer(environment, "COPIES", 1, (1, COPIES_MAX))
        broker_url, store_url = _text(environment, "BROKER_URL"), _text(environment, "STORE_URL")
        if broker_url and broker_url.startswith("memory:"):
            raise ConfigError(
                "BROKER_URL: memory:// cannot carry events between processes; leave it unset, or name a Redis or Kafka"
            )
        if store_url and store_url.startswith("memory:") and copies > 1:
            raise ConfigError("STORE_URL: memory:// belongs to one process; leave it unset, or leave COPIES at 1")
        own = _own_backends(broker_url, store_url) if backends == "native" else {}
        ports = _ports(environment, copies, own)
        embedded_store = f"sqlite:///{state / 'store'}"
        return cls(
            state_dir=state,
            copies=copies,
            ports=ports,
            demo=_demo(environment),
            redis_url=_text(environment, "REDIS_URL"),
            broker_url=broker_url or (kafka_url(ports["kafka"]) if "kafka" in ports else None),
            store_url=store_url or (mongo_url(ports["mongo"], DATABASE) if "mongo" in ports else embedded_store),
            environment=dict(environment),
        )


def state_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """The absolute path of `STATE_DIR`, whether it exists or not. Raises ConfigError for one that no URL can hold."""
    path = Path(_text(environment, "STATE_DIR") or ".run").expanduser().absolute()
    if wrong := sorted(set(str(path)) & _NOT_IN_A_URL):
        raise ConfigError(
            f"STATE_DIR: {str(path)!r} is part of URLs, which cannot hold {wrong[0]!r}; choose another folder"
        )
    return path


def _text(environment: Mapping[str, str], name: str) -> str | None:
    return environment.get(name, "").strip() or None


def _integer(environment: Mapping[str, str], name: str, default: int, bounds: tuple[int, int]) -> int:
    text = _text(environment, name)
    low, high = bounds
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
        raise ConfigError(f"{name}: expected a whole number from {low} to {high} (given: {text!r})")
    return int(text)


def copy_name(part: str, number: int) -> str:
    """The first copy goes by the name of its room alone."""
    return part if number == 1 else f"{part}-{number}"


def port_knob(name: str) -> str:
    """The setting that moves the port of the process `name`."""
    part = name.partition("-")[0]
    return "PORT" if part == "gateway" else f"{part.upper()}_PORT"


def _own_backends(broker_url: str | None, store_url: str | None) -> dict[str, int]:
    """What a native system runs itself, with its ports: whatever no URL names."""
    return {**({} if broker_url else _KAFKA_PORTS), **({} if store_url else _MONGO_PORTS)}


def _ports(environment: Mapping[str, str], copies: int, own_backends: Mapping[str, int]) -> dict[str, int]:
    offsets = {**_ROOM_PORTS, **own_backends}
    beyond_first = (copies - 1) * PORTS_PER_COPY
    first = _integer(environment, "PORT", 8080, (1, 65535 - max(offsets.values()) - beyond_first))
    ports = {"gateway": first}
    for name, offset in offsets.items():
        if name != "gateway":
            ports[name] = _integer(environment, port_knob(name), first + offset, (1, 65535 - beyond_first))
    for number, name in product(range(2, copies + 1), _ROOM_PORTS):
        ports[copy_name(name, number)] = ports[name] + (number - 1) * PORTS_PER_COPY
    if len(set(ports.values())) < len(ports):
        listed = ", ".join(f"{name} {port}" for name, port in ports.items())
        raise ConfigError(f"PORT: two parts would share one port ({listed})")
    return ports


def _demo(environment: Mapping[str, str]) -> DemoFigures:
    usual = DemoFigures()
    demo = DemoFigures(
        schedules=_integer(environment, "DEMO_SCHEDULES", usual.schedules, (0, SCHEDULES_MAX)),
        seats=_integer(environment, "DEMO_SEATS", usual.seats, (1, SEATS_MAX)),
        users=_integer(environment, "DEMO_USERS", usual.users, (0, 1_000_000)),
        points=_integer(environment, "DEMO_POINTS", usual.points, (0, INTEGER_MAX)),
    )
    if demo.schedules * demo.seats > DEMO_SEATS_TOTAL_MAX:
        raise ConfigError(
            f"DEMO_SCHEDULES × DEMO_SEATS: at most {DEMO_SEATS_TOTAL_MAX:,} seats "
            f"(given: {demo.schedules} × {demo.seats})"
        )
    return demo
