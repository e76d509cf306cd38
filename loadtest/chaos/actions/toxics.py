"""What is wrong with the wires of a system: the control interface of the fault proxy, from a plain function.

`control` is the proxy's address as host:port; empty: CHAOS_CONTROL of the environment, else the one that the system in
STATE_DIR runs (`loadtest.chaos.actions.wired_system`), else Toxiproxy's usual one.
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


def control_file(state_dir: str = "") -> Path:
    """Where a wired system writes the address of its proxy."""
    return place.wired_folder(state_dir) / "control"


def proxies(control: str = "") -> dict[str, Any]:
    """Every proxy by its name, with its toxics and how many connections these have touched."""
    found: dict[str, Any] = _call(control, "GET", "/proxies")
    return found


def add(
    proxy: str,
    type_: str,
    attributes: dict[str, int] | None = None,
    *,
    stream: str = "downstream",
    toxicity: float = 1.0,
    name: str = "",
    control: str = "",
) -> dict[str, Any]:
    """Put a toxic on a wire; it as the proxy shows it. Undo: `remove` with its name."""
    body: dict[str, Any] = {"type": type_, "stream": stream, "toxicity": toxicity, "attributes": attributes or {}}
    if name:
        body["name"] = name
    made: dict[str, Any] = _call(control, "POST", f"/proxies/{quote(proxy, safe='')}/toxics", body)
    return made


def remove(proxy: str, name: str, control: str = "") -> None:
    """Take a toxic off a wire."""
    _call(control, "DELETE", f"/proxies/{quote(proxy, safe='')}/toxics/{quote(name, safe='')}")


def half_open(proxy: str, control: str = "") -> None:
    """Nothing gets through either way and nobody is told, as when the machine behind it has vanished. Undo: `reset`, or
    `remove` of `timeout_upstream` and `timeout_downstream`."""
    for stream in STREAMS:
        add(proxy, "timeout", {"timeout": 0}, stream=stream, control=control)


def down(proxy: str, control: str = "") -> None:
    """Connections are refused, and those there are end. Undo: `up`."""
    _call(control, "POST", f"/proxies/{quote(proxy, safe='')}", {"enabled": False})


def up(proxy: str, control: str = "") -> None:
    """The wire is there again."""
    _call(control, "POST", f"/proxies/{quote(proxy, safe='')}", {"enabled": True})


def lead(proxy: str, upstream: str, control: str = "") -> None:
    """Make a wire end somewhere else; its connections end. Undo: the same with the former address."""
    _call(control, "POST", f"/proxies/{quote(proxy, safe='')}", {"upstream": upstream})


def make(name: str, listen: str, upstream: str, control: str = "") -> str:
    """A new wire; the address it listens on."""
    made = _call(control, "POST", "/proxies", {"name": name, "listen": listen, "upstream": upstream})
    return str(made["listen"])


def reset(control: str = "") -> None:
    """Every wire is there, and nothing is wrong with any."""
    _call(control, "POST", "/reset")


def _call(control: str, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    address = control or os.environ.get("CHAOS_CONTROL") or _of_system() or USUAL_CONTROL
    connection = http.client.HTTPConnection(address, timeout=CALL_S)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        said = answer.read()
    except (OSError, http.client.HTTPException) as why:
        raise ConfigError(f"control: no fault proxy answers at {address} ({why})") from None
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
