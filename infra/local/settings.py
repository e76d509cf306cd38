"""Every knob of `make run`, read from the environment and checked once.

Plain dataclasses on purpose: the settings library of the services costs half a second to import, and a warm start
has five for everything.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from libs.common.errors import ConfigError
from libs.common.ids import INTEGER_MAX

ROOMS = ("queue", "catalog", "reservation", "wallet", "gateway")
"""In the order in which `make run` names them."""

DEMO_TOKEN = "test-token"  # noqa: S105 (it is public: load tests use it, and every start says so)
DEMO_SEATS_TOTAL_MAX = 500_000

# The catalog's own bounds, repeated because its contract takes half a second to import; a test compares them.
SCHEDULES_MAX = 1_000
SEATS_MAX = 20_000

_PORT_OFFSETS = {"gateway": 0, "admin": 10, "queue": 11, "catalog": 12, "reservation": 13, "wallet": 14}


@dataclass(frozen=True, slots=True)
class DemoFigures:
    """How much demo data the first start loads. `seats` is per schedule, `points` per wallet."""

    schedules: int = 20
    seats: int = 50
    users: int = 1000
    points: int = 10_000_000


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """`ports` has one TCP port per room, and the gateway's `admin`; `environment` is the user's own, passed on."""

    state_dir: Path
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

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "LocalSettings":
        """Raises ConfigError with one sentence that names the first wrong setting."""
        state = state_dir(environment)
        broker_url = _text(environment, "BROKER_URL")
        if broker_url and broker_url.startswith("memory:"):
            raise ConfigError(
                "BROKER_URL: memory:// cannot carry events between processes; leave it unset, or name a Redis or Kafka"
            )
        return cls(
            state_dir=state,
            ports=_ports(environment),
            demo=_demo(environment),
            redis_url=_text(environment, "REDIS_URL"),
            broker_url=broker_url,
            store_url=_text(environment, "STORE_URL") or f"sqlite:///{state / 'store'}",
            environment=dict(environment),
        )


def state_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """The absolute path of `STATE_DIR`, whether it exists or not."""
    return Path(_text(environment, "STATE_DIR") or ".run").expanduser().absolute()


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


def _ports(environment: Mapping[str, str]) -> dict[str, int]:
    first = _integer(environment, "PORT", 8080, (1, 65535 - max(_PORT_OFFSETS.values())))
    ports = {"gateway": first}
    for name, offset in _PORT_OFFSETS.items():
        if name != "gateway":
            ports[name] = _integer(environment, f"{name.upper()}_PORT", first + offset, (1, 65535))
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
