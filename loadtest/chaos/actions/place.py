"""The running system that an action is about: found by its STATE_DIR, asked over its supervisor's socket."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from infra.local import settings
from infra.local.control import ask
from infra.local.system import control_socket
from libs.common.errors import ConfigError

POLL_S = 0.02

Needs = dict[str, str]
"""What is missing on this machine, by name, with a sentence; empty when nothing is."""


def folder(state_dir: str = "") -> Path:
    """The absolute path of STATE_DIR."""
    return settings.state_dir({"STATE_DIR": state_dir} if state_dir else os.environ)


def wired_folder(state_dir: str = "") -> Path:
    """What `wired_system` keeps for the time it runs: its processes' clocks, and where its proxy is."""
    return folder(state_dir) / "wired"


def act(verb: str, service: str, state_dir: str = "") -> None:
    """One of the supervisor's verbs on one process."""
    ask(control_socket(folder(state_dir)), verb, service)


def rows(state_dir: str = "") -> dict[str, dict[str, Any]]:
    """Each process by its name, as `make status` shows it."""
    told = ask(control_socket(folder(state_dir)), "status")["services"]
    return {row["name"]: row for row in told}


def row(service: str, state_dir: str = "") -> dict[str, Any]:
    """One process. Raises ConfigError when the system has none of that name."""
    found = rows(state_dir)
    if service not in found:
        raise ConfigError(f"service: {service!r} is not among {', '.join(found)}")
    return found[service]


def process(service: str, state_dir: str = "") -> psutil.Process:
    """Raises ConfigError when it does not run at the moment."""
    pid = row(service, state_dir)["pid"]
    try:
        return psutil.Process(pid or 0)
    except psutil.Error:
        raise ConfigError(f"{service} is not running at the moment") from None


def address(setting: str, state_dir: str = "") -> str:
    """What the running system says of a setting such as BROKER_URL."""
    return str(ask(control_socket(folder(state_dir)), "status")["addresses"][setting])


def wait_until(condition: Callable[[], bool], within_s: float, what: str) -> float:
    """The seconds it took. Raises ConfigError when the time is up."""
    began_s = time.monotonic()
    while not condition():
        if time.monotonic() - began_s > within_s:
            raise ConfigError(f"not within {within_s:g} s: {what}")
        time.sleep(POLL_S)
    return round(time.monotonic() - began_s, 3)


def as_root() -> Needs:
    """For what only root may do."""
    return {} if os.geteuid() == 0 else {"root": "only root may mount file systems and change network namespaces"}
