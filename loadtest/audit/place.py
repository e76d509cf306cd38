"""Where the system is: what a running one says of itself, else what `make run` would make of this environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from infra.local.control import ask
from infra.local.settings import LocalSettings
from infra.local.system import control_socket
from libs.common.errors import ConfigError
from loadtest.audit.doors.ports import BrokerDoor, CannotRead, StoreDoor
from loadtest.audit.doors.sqlite import SqliteDoor
from loadtest.audit.verdict import Unchecked
from loadtest.audit.world import READ, SEATS_MAX_USUAL, Reader, Rules


@dataclass(frozen=True, slots=True)
class Place:
    """`is_running`: somebody may be at work on what is under way. `token` is always inside, or empty: there is none."""

    reader: Reader
    is_running: bool
    token: str
    unchecked: tuple[Unchecked, ...]


def find(environment: Mapping[str, str] = os.environ) -> Place:
    """Raises ConfigError for a setting that names no system, CannotRead for a store that nobody can read."""
    settings = LocalSettings.from_environment(environment)
    addresses, system_rules = _running(settings, environment)
    store_url = addresses.get("STORE_URL") or settings.store_url
    broker_url = addresses.get("BROKER_URL") or settings.broker_url or settings.redis_url or ""
    # A store of somebody else's may well have services of somebody else's at work on it.
    is_running = bool(addresses) or not store_url.startswith("sqlite:")
    unchecked = []
    if not broker_url:
        unchecked.append(Unchecked("I8 I10 I11", "streams and dead letters: the system's own Redis is not running"))
    if not is_running:
        unchecked.append(Unchecked("I8", "deadlines: the system is not running, so nobody could keep them"))
    rules = Rules(
        seats_max=round(_number("MAX_SEATS_PER_USER", system_rules["MAX_SEATS_PER_USER"] or str(SEATS_MAX_USUAL))),
        skew_ms=round(_number("CLOCK_SKEW_S", system_rules["CLOCK_SKEW_S"]) * 1000),
    )
    reader = Reader(
        stores={service: _store(store_url, service) for service in READ},
        broker=_broker(broker_url) if broker_url else None,
        rules=rules,
    )
    return Place(reader, is_running, system_rules["STATIC_TOKENS"].partition(",")[0], tuple(unchecked))


def _running(settings: LocalSettings, environment: Mapping[str, str]) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Addresses and rules of the system that runs in STATE_DIR; none, and the environment's rules, when none does, or
    when the environment names a store that is not its own."""
    try:
        told = ask(control_socket(settings.state_dir), "status")
    except ConfigError:
        return {}, settings.rules
    if environment.get("STORE_URL") and settings.store_url != told["addresses"]["STORE_URL"]:
        return {}, settings.rules
    return told["addresses"], told["rules"]


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{name}: expected a number (given: {text!r})") from None


def _store(url: str, service: str) -> StoreDoor:
    scheme, path = urlsplit(url).scheme, urlsplit(url).path
    if scheme == "sqlite":
        return SqliteDoor(Path(path[1:]) / f"{service}.db")
    if scheme == "mongodb":
        from loadtest.audit.doors.mongo import MongoDoor  # noqa: PLC0415 (a tenth of a second for whoever needs it)

        return MongoDoor(url, service)
    raise CannotRead(f"STORE_URL: nobody outside can read {url}")


def _broker(url: str) -> BrokerDoor:
    if urlsplit(url).scheme == "kafka":
        from loadtest.audit.doors.kafka import KafkaDoor  # noqa: PLC0415 (the same)

        return KafkaDoor(url)
    from loadtest.audit.doors.redis_streams import RedisDoor  # noqa: PLC0415 (the same)

    return RedisDoor(url)
