"""What is wrong with the wires of a system: the control interface of the fault proxy, from a plain function.

It is at CHAOS_CONTROL (host:port) of the environment; else it is the one that the system in STATE_DIR runs
(`loadtest.chaos.actions.wired_system`), else at Toxiproxy's usual address. `control` names another one.
"""

import http.client
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from libs.common.errors import ConfigError
from loadtest.chaos.actions import place
from loadtest.chaos.actions.place import Needs

USUAL_CONTROL = "127.0.0.1:8474"
CALL_S = 10.0
STREAMS = ("upstream", "downstream")


def needs() -> Needs:
    """Nothing, as long as a proxy runs."""
    return {}


def control_file() -> Path:
    """Where a wired system writes the address of its proxy."""
    return place.wired_folder() / "control"


def proxies(control: str = "") -> dict[str, Any]:
    """Every proxy by its name, with its toxics and how many connections these have touched."""
    found: dict[str, Any] = _call("GET", "/proxies", control=control)
    return found


def add(
    proxy: str,
    type_: str,
    attributes: dict[str, int] | None = None,
    *,
    stream: str = "downstream",
    toxicity: float = 1.0,
    name: str = "",
) -> dict[str, Any]:
    """Put a toxic on a wire; it as the proxy shows it. Undo: `remove` with its name."""
    body: dict[str, Any] = {"type": type_, "stream": stream, "toxicity": toxicity, "attributes": attributes or {}}
    if name:
        body["name"] = name
    made: dict[str, Any] = _call("POST", f"{_path(proxy)}/toxics", body)
    return made


def remove(proxy: str, name: str) -> None:
    """Take a toxic off a wire. Raises ConfigError when it had touched nothing there: then it was no fault."""
    if not _taken_off(proxy, name):
        raise ConfigError(f"{name}: nothing on the wire {proxy} has met it")


def half_open(proxy: str) -> None:
    """Nothing gets through either way and nobody is told, as when the machine behind it has vanished. Undo: `mend`."""
    for stream in STREAMS:
        add(proxy, "timeout", {"timeout": 0}, stream=stream)


def mend(proxy: str) -> None:
    """A half open wire passes everything on again; its connections end. Raises ConfigError like `remove`."""
    met = [_taken_off(proxy, f"timeout_{stream}") for stream in STREAMS]
    if not any(met):
        raise ConfigError(f"half_open: nothing was on the wire {proxy}")


def down(proxy: str) -> None:
    """Connections are refused, and those there are end. Undo: `up`."""
    _call("POST", _path(proxy), {"enabled": False})


def up(proxy: str) -> None:
    """The wire is there again."""
    _call("POST", _path(proxy), {"enabled": True})


def lead(proxy: str, upstream: str) -> None:
    """Make a wire end somewhere else; its connections end. Undo: the same with the former address."""
    _call("POST", _path(proxy), {"upstream": upstream})


def make(name: str, listen: str, upstream: str, control: str = "") -> str:
    """A new wire; the address it listens on."""
    made = _call("POST", "/proxies", {"name": name, "listen": listen, "upstream": upstream}, control)
    return str(made["listen"])


def reset() -> None:
    """Every wire is there, and nothing is wrong with any."""
    _call("POST", "/reset")


def _taken_off(proxy: str, name: str) -> bool:
    """Whether it had touched anything; True where the proxy does not say: Toxiproxy does not count."""
    path = f"{_path(proxy)}/toxics/{quote(name, safe='')}"
    toxic = _call("GET", path)
    _call("DELETE", path)
    return bool(toxic.get("touched", True))


def _path(proxy: str) -> str:
    return f"/proxies/{quote(proxy, safe='')}"


def _call(method: str, path: str, body: dict[str, Any] | None = None, control: str = "") -> Any:
    address = control or os.environ.get("CHAOS_CONTROL") or _of_system() or USUAL_CONTROL
    connection = http.client.HTTPConnection(address, timeout=CALL_S)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        said = answer.read()
    except (OSError, http.client.HTTPException) as why:
        raise ConfigError(f"CHAOS_CONTROL: no fault proxy answers at {address} ({why})") from None
    finally:
        connection.close()
    told: Any = json.loads(said) if said else None
    if answer.status >= http.client.BAD_REQUEST:
        raise ConfigError(f"{method} {path}: {told['error']}")
    return told


def _of_system() -> str:
    try:
        return control_file().read_text().strip()
    except OSError:
        return ""
