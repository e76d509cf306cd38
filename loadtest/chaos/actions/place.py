"""The running system that an action is about: found by STATE_DIR, asked over its supervisor's socket. And what several
kinds of actions do: wait, run a program, ask whether they may."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from infra.local.control import ask
from infra.local.settings import state_dir
from infra.local.system import control_socket
from libs.common.errors import ConfigError

POLL_S = 0.02
COMMAND_S = 10.0

Needs = dict[str, str]
"""What is missing on this machine, by name, with a sentence; empty when nothing is."""


def wired_folder() -> Path:
    """What `wired_system` keeps for the time it runs: its processes' clocks, and where its proxy is."""
    return state_dir() / "wired"


def act(verb: str, service: str) -> None:
    """One of the supervisor's verbs on one process."""
    ask(control_socket(state_dir()), verb, service)


def rows() -> dict[str, dict[str, Any]]:
    """Each process by its name, as `make status` shows it."""
    told = ask(control_socket(state_dir()), "status")["services"]
    return {row["name"]: row for row in told}


def row(service: str) -> dict[str, Any]:
    """One process. Raises ConfigError when the system has none of that name."""
    found = rows()
    if service not in found:
        raise ConfigError(f"service: {service!r} is not among {', '.join(found)}")
    return found[service]


def process(service: str) -> psutil.Process:
    """Raises ConfigError when it does not run at the moment."""
    pid = row(service)["pid"]
    try:
        return psutil.Process(pid or 0)
    except psutil.Error:
        raise ConfigError(f"{service} is not running at the moment") from None


def address(setting: str) -> str:
    """What the running system says of a setting such as BROKER_URL."""
    return str(ask(control_socket(state_dir()), "status")["addresses"][setting])


def wait_until(condition: Callable[[], bool], within_s: float, what: str) -> float:
    """The seconds it took. Raises ConfigError when the time is up."""
    began_s = time.monotonic()
    while not condition():
        if time.monotonic() - began_s > within_s:
            raise ConfigError(f"not within {within_s:g} s: {what}")
        time.sleep(POLL_S)
    return round(time.monotonic() - began_s, 3)


def command(*words: str) -> None:
    """Run a program. Raises ConfigError with what it said when it fails, or when it takes longer than `COMMAND_S`."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=COMMAND_S, check=False)
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{' '.join(words)}: not within {COMMAND_S:g} s") from None
    if done.returncode != 0:
        raise ConfigError(f"{' '.join(words)}: {done.stderr.strip() or f'exit code {done.returncode}'}")


def as_root() -> Needs:
    """For what only root may do."""
    return {} if os.geteuid() == 0 else {"root": "only root may mount file systems and change network namespaces"}
