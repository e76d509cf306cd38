"""Partitions by the kernel: packets that vanish, in both directions or in one, for the wires of a `wired_system`.

The services cannot move into a network namespace of their own: their supervisor asks on loopback whether they are
ready. So a wire is led through one instead, by a second proxy on the far side of a veth pair:

    service ── proxy ══ veth ══╪══ veth ══ proxy ── UNIX socket of Redis, or of another service
               this namespace  │  the other one

UNIX sockets cross network namespaces; what listens on loopback only (Kafka, MongoDB, a gateway) is out of reach from
there. For those, `toxics.half_open` is the nearest.
"""

import json
import os
import shutil
import subprocess
import sys
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from infra.local.settings import state_dir
from libs.common.errors import ConfigError
from loadtest.chaos.actions import place, toxics
from loadtest.chaos.actions.place import Needs

PROXY = "loadtest.chaos.proxy"
START_S = 20.0
CONTROL_PORT = 8474
STOP_S = 5.0

NOBODY = "02:00:00:00:00:01"
"""The hardware address of no interface: what is sent there is thrown away by whoever gets it. A route that discards
packets would tell their sender."""

CUTS = ("both", "to_peer", "to_client")
"""Which packets vanish: all, those with requests, those with replies."""


_started: list[subprocess.Popen[bytes]] = []
"""Proxies of this process's own in namespaces: somebody has to wait for their end."""


def needs() -> Needs:
    """Root, and `ip`."""
    return place.as_root() or ({} if shutil.which("ip") else {"ip": "there is no ip command (iproute2) on PATH"})


def lay(proxies: list[str]) -> None:
    """Lead these wires through the namespace; their connections end once. Undo: `take_up`."""
    record = _record()
    if record.exists():
        raise ConfigError("the wires are laid already; take them up first")
    known = toxics.proxies()
    for name in proxies:
        if not known.get(name, {}).get("upstream", "").startswith("unix:"):
            raise ConfigError(f"proxies: {name} does not lead to a UNIX socket, so the namespace cannot reach it")
    here, there = _addresses()
    laid: dict[str, Any] = {"pid": 0, "upstreams": {name: known[name]["upstream"] for name in proxies}}
    record.write_text(json.dumps(laid))
    try:
        _make_namespace(here, there)
        laid["pid"] = _start_proxy(_name(), there)
        record.write_text(json.dumps(laid))
        far = f"{there}:{CONTROL_PORT}"
        place.wait_until(lambda: _answers(far), START_S, "the proxy in the namespace answers")
        for name, upstream in laid["upstreams"].items():
            toxics.lead(name, toxics.make(name, f"{there}:0", upstream, far))
    except ConfigError:
        take_up()
        raise


def cut(which: str = "both") -> None:
    """From now on packets vanish; nobody is told. Undo: `heal`."""
    here, there = _addresses()
    if which not in CUTS:
        raise ConfigError(f"which: expected one of {', '.join(CUTS)} (given: {which!r})")
    if not _record().exists():
        raise ConfigError("no wire is laid; lay some first")
    name = _name()
    if which == "both":
        # The far end: with the near one down, the kernel would tell whoever sends.
        _ip("-n", name, "link", "set", f"{name}b", "down")
    elif which == "to_peer":
        _ip("neigh", "replace", there, "lladdr", NOBODY, "dev", f"{name}a", "nud", "permanent")
    else:
        _ip("-n", name, "neigh", "replace", here, "lladdr", NOBODY, "dev", f"{name}b", "nud", "permanent")


def heal() -> None:
    """Packets arrive again; one that is healed is not disturbed."""
    here, there = _addresses()
    name = _name()
    _ip("-n", name, "link", "set", f"{name}b", "up")
    with suppress(ConfigError):
        _ip("neigh", "del", there, "dev", f"{name}a")
    with suppress(ConfigError):
        _ip("-n", name, "neigh", "del", here, "dev", f"{name}b")


def take_up() -> None:
    """Lead the wires as before, and remove the namespace; they may be taken up already, and the system gone."""
    record = _record()
    laid: dict[str, Any] = {"pid": 0, "upstreams": {}}
    if record.exists():
        laid = json.loads(record.read_text())
    try:
        for name, upstream in laid["upstreams"].items():
            toxics.lead(name, upstream)
    finally:  # a system that was killed has no proxy any more, and left its namespace
        _stop_proxy(laid["pid"])
        name = _name()
        for words in (("link", "del", f"{name}a"), ("netns", "del", name)):
            with suppress(ConfigError):
                _ip(*words)
        record.unlink(missing_ok=True)


def _make_namespace(here: str, there: str) -> None:
    name = _name()
    _ip("netns", "add", name)
    _ip("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name)
    _ip("address", "add", f"{here}/30", "dev", f"{name}a")
    _ip("link", "set", f"{name}a", "up")
    _ip("-n", name, "address", "add", f"{there}/30", "dev", f"{name}b")
    _ip("-n", name, "link", "set", f"{name}b", "up")


def _start_proxy(namespace: str, address: str) -> int:
    """The pid of a proxy in the namespace; it ends with this process at the latest."""
    program = (sys.executable, "-m", PROXY, "--control", f"{address}:{CONTROL_PORT}")
    enter = ("ip", "netns", "exec", namespace)
    process = subprocess.Popen([*enter, *program, "--parent", str(os.getpid())], stdout=subprocess.DEVNULL)
    _started.append(process)
    return process.pid


def _answers(control: str) -> bool:
    try:
        toxics.proxies(control)
    except ConfigError:
        return False
    return True


def _stop_proxy(pid: int) -> None:
    with suppress(psutil.NoSuchProcess):  # it has ended, maybe since we looked
        process = psutil.Process(pid)
        if PROXY in process.cmdline():
            process.terminate()
            try:
                process.wait(STOP_S)
            except psutil.TimeoutExpired:
                process.kill()
    _started[:] = [started for started in _started if started.poll() is None]


def _name() -> str:
    """Of the namespace; with a letter behind it, of an end of the pair: those have 15 characters at most."""
    return f"sd{zlib.crc32(str(state_dir()).encode()):08x}"


def _addresses() -> tuple[str, str]:
    """Of both ends, in a block of four that no other system here has, as good as certainly."""
    digest = zlib.crc32(str(state_dir()).encode())
    block = f"10.{200 + digest % 50}.{digest // 50 % 256}"
    return f"{block}.1", f"{block}.2"


def _record() -> Path:
    return place.wired_folder() / "partition.json"


def _ip(*words: str) -> None:
    place.command("ip", *words)
