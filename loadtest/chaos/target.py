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
from dataclasses import dataclass
from urllib.request import urlopen

import orjson

from infra.local.settings import DEMO_TOKEN, PORTS_PER_COPY, LocalSettings
from infra.native.provision import parts
from libs.common.errors import ConfigError
from loadtest.buying.crowd import Scene
from loadtest.chaos.actions import place
from loadtest.chaos.files import ACTIONS, Experiment
from loadtest.fresh_system import FreshSystem, ports_in_a_row

LOCAL = ("infra.local", "run")
WIRED = ("loadtest.chaos.actions.wired_system",)
BY_URL = frozenset({f"{ACTIONS}toxics", f"{ACTIONS}tickets", "loadtest.chaos.probes", "loadtest.chaos.clients"})
"""What needs no more than addresses."""

CONTROL_S = 5.0
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


@contextmanager
def named() -> Iterator[Target]:
    """The one that the environment names."""
    urls = tuple(url.strip().rstrip("/") for url in os.environ["TARGET"].split(","))
    number = {name: int(os.environ.get(name) or value) for name, value in USUAL.items() if name.startswith("DEMO_")}
    scene = Scene(number["DEMO_USERS"], number["DEMO_SCHEDULES"], number["DEMO_SEATS"])
    supervised = _is_supervised()
    has_stores = supervised or bool(os.environ.get("STORE_URL"))
    yield Target(urls, os.environ.get("TOKEN") or DEMO_TOKEN, scene, False, supervised, has_stores)


@contextmanager
def fresh(experiment: Experiment, environment: Mapping[str, str]) -> Iterator[Target]:
    """One of its own for a run, with its settings in this process's environment for as long as it runs."""
    settings = {**USUAL, "BACKENDS": os.environ.get("BACKENDS") or "embedded", **environment}
    copies = int(settings.get("COPIES", "1"))
    port = ports_in_a_row(copies * PORTS_PER_COPY + 1)
    settings["CHAOS_CONTROL"] = f"127.0.0.1:{port + copies * PORTS_PER_COPY}"
    command = WIRED if experiment.is_wired else LOCAL
    with FreshSystem(settings, port=port, command=command) as system:
        if experiment.is_wired:
            urls = [_front(settings["CHAOS_CONTROL"])]
        else:
            urls = [f"http://127.0.0.1:{port + copy * PORTS_PER_COPY}" for copy in range(copies)]
        demo = LocalSettings.from_environment(system.variables).demo
        with _environment({**system.variables, "TARGET": ",".join(urls), "TOKEN": DEMO_TOKEN}):
            yield Target(tuple(urls), DEMO_TOKEN, Scene(demo.users, demo.schedules, demo.seats), True, True, True)


def skipped(experiment: Experiment, backends: str) -> str:
    """Why this experiment cannot be made here; empty when it can."""
    if backends not in experiment.terms.backends:
        return f"it is about BACKENDS={' or '.join(experiment.terms.backends)}"
    missing = experiment.missing()
    if backends == "native" and not os.environ.get("TARGET"):
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
