"""The system that an experiment is made on: a fresh one of its own, or the one that `TARGET` names.

TARGET          base URL of a gateway (commas between several): no system is started
TOKEN           a ticket that is always inside there; `test-token` where none is named
CHAOS_CONTROL   host:port of the fault proxy's control there
STATE_DIR       where a supervisor of ours runs it, if one does: then its processes can be acted on
STORE_URL BROKER_URL REDIS_URL   for the auditor, as `make audit` takes them
BACKENDS        `native` where its broker is Kafka and its store MongoDB
PAY_DEADLINE_S  of its payments, where that is not the usual one

Actions and probes find their system by the same names, so a run puts them into this process's own environment.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.request import urlopen

import orjson

from infra.local.settings import BACKENDS, DEMO_TOKEN, PORTS_PER_COPY, DemoFigures, LocalSettings
from infra.native.provision import parts
from libs.common.errors import ConfigError
from loadtest.buying.crowd import RIVAL_SCHEDULES, RIVAL_SEATS, Scene
from loadtest.chaos.actions import place
from loadtest.chaos.files import ACTIONS, Experiment
from loadtest.chaos.probes import NotSteady, free_seats, gateways, token
from loadtest.fresh_system import FreshSystem, ports_in_a_row

LOCAL = ("infra.local", "run")
WIRED = ("loadtest.chaos.actions.wired_system",)
BY_URL = frozenset({f"{ACTIONS}toxics", f"{ACTIONS}tickets", "loadtest.chaos.probes", "loadtest.chaos.clients"})
"""What needs no more than addresses."""

CONTROL_S = 5.0
PAY_DEADLINE_USUAL_S = "30"
NATIVE = frozenset({"java", "redis-server", "kafka, mongo stand-in"})
"""The parts that a native system is started from; fetching them takes longer than a start may."""

USUAL = {
    "DEMO_SCHEDULES": "80",
    "DEMO_SEATS": "50",
    "DEMO_USERS": "500",
    "ROOM_CAPACITY": "6",
    "HOLD_S": "30",
    "SESSION_S": "60",
    "CLAIM_WINDOW_S": "12",
    # The processes of one machine share its clock; an experiment about clocks says otherwise.
    "CLOCK_SKEW_S": "0",
}
"""A small room, so that people wait in line; visits and holds that can run out within a run."""


@dataclass(frozen=True, slots=True)
class Target:
    """`urls` are those of the gateways, `is_own` says that it was started for this run."""

    urls: tuple[str, ...]
    token: str
    scene: Scene
    is_own: bool
    has_supervisor: bool
    has_stores: bool

    @property
    def cannot_audit(self) -> str:
        """Why the auditor cannot look; empty when it can."""
        return "" if self.has_stores else "STORE_URL names no store of this environment"


def check_settings() -> None:
    """Raises ConfigError for a setting of the whole series that names nothing, so that no run is begun with it."""
    backends()
    pay_deadline_s()
    if os.environ.get("TARGET"):
        gateways()
        _scene(_named_demo())


def backends() -> str:
    """Raises ConfigError for what is none: every experiment would be skipped for it."""
    found = os.environ.get("BACKENDS") or BACKENDS[0]
    if found not in BACKENDS:
        raise ConfigError(f"BACKENDS: expected {' or '.join(BACKENDS)} (given: {found!r})")
    return found


def pay_deadline_s() -> float:
    """Of the system's payments. Raises ConfigError."""
    text = os.environ.get("PAY_DEADLINE_S") or PAY_DEADLINE_USUAL_S
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"PAY_DEADLINE_S: expected a number of seconds (given: {text!r})") from None


@contextmanager
def named() -> Iterator[Target]:
    """The one that the environment names. Raises ConfigError where nobody says which seats are left there: it is down,
    or is no such system, or the ticket is not good."""
    scene = _scene(_named_demo())
    every = {(schedule, seat) for schedule in range(1, scene.schedules + 1) for seat in range(1, scene.seats + 1)}
    try:
        scene = replace(scene, taken=frozenset(every - free_seats(scene.schedules)))
    except NotSteady as why:
        raise ConfigError(f"TARGET: {why}") from None
    supervised = _is_supervised()
    has_stores = supervised or bool(os.environ.get("STORE_URL"))
    yield Target(tuple(gateways()), token(), scene, False, supervised, has_stores)


def _named_demo() -> DemoFigures:
    names = [name for name in USUAL if name.startswith("DEMO_")]
    return LocalSettings.from_environment({name: os.environ.get(name) or USUAL[name] for name in names}).demo


def _scene(demo: DemoFigures) -> Scene:
    """Raises ConfigError for what is too little for a crowd."""
    least = {"DEMO_USERS": 1, "DEMO_SCHEDULES": RIVAL_SCHEDULES + 1, "DEMO_SEATS": RIVAL_SEATS}
    for (name, number), found in zip(least.items(), (demo.users, demo.schedules, demo.seats), strict=True):
        if found < number:
            raise ConfigError(f"{name}: the crowd needs {number} at least (given: {found})")
    return Scene(demo.users, demo.schedules, demo.seats)


@contextmanager
def fresh(experiment: Experiment, environment: Mapping[str, str], logs: Path) -> Iterator[Target]:
    """One of its own for a run, with its settings in this process's environment for as long as it runs; its logs are in
    `logs` afterwards."""
    settings = {**USUAL, "BACKENDS": backends(), **environment}
    copies = int(settings.get("COPIES", "1"))
    port = ports_in_a_row(copies * PORTS_PER_COPY + 1)
    settings["CHAOS_CONTROL"] = f"127.0.0.1:{port + copies * PORTS_PER_COPY}"
    command = WIRED if experiment.is_wired else LOCAL
    with FreshSystem(settings, port=port, command=command, logs=logs) as system:
        if experiment.is_wired:
            urls = [_front(settings["CHAOS_CONTROL"])]
        else:
            urls = [f"http://127.0.0.1:{port + copy * PORTS_PER_COPY}" for copy in range(copies)]
        scene = _scene(LocalSettings.from_environment(system.variables).demo)
        with _environment({**system.variables, "TARGET": ",".join(urls), "TOKEN": DEMO_TOKEN}):
            yield Target(tuple(urls), DEMO_TOKEN, scene, True, True, True)


def skipped(experiment: Experiment, on: str) -> str:
    """Why this experiment cannot be made here on these backends; empty when it can."""
    if on not in experiment.terms.backends:
        return f"it is about BACKENDS={' or '.join(experiment.terms.backends)}"
    missing = experiment.missing()
    if on == "native" and not os.environ.get("TARGET"):
        missing |= {part.name: part.missing for part in parts() if part.name in NATIVE and part.missing}
    if missing:
        return "; ".join(f"{name}: {why}" for name, why in missing.items())
    if not os.environ.get("TARGET"):
        return ""
    if not _is_supervised() and not BY_URL.issuperset(experiment.modules):
        return "it acts on processes, and STATE_DIR names no system that runs on this machine"
    if experiment.is_wired and not os.environ.get("CHAOS_CONTROL"):
        return "CHAOS_CONTROL does not say where the fault proxy of this environment is"
    return ""


def _is_supervised() -> bool:
    """Only where STATE_DIR is named: in its usual place there may be a system that is not TARGET's."""
    if not os.environ.get("STATE_DIR"):
        return False
    try:
        place.rows()
    except ConfigError:
        return False
    return True


def _front(control: str) -> str:
    """Where the proxy before the gateway listens."""
    with urlopen(f"http://{control}/proxies/gateway", timeout=CONTROL_S) as answer:
        return f"http://{orjson.loads(answer.read())['listen']}"


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
