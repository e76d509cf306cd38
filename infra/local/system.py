"""The composition of `make run`: what is started, with which environment, and in which order things happen."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path

from infra.local.backends import Backends, choose_backends
from infra.local.child import Child, http_ready
from infra.local.control import Control
from infra.local.demo import load_demo_once
from infra.local.display import Display
from infra.local.guardian import Guardian
from infra.local.settings import DEMO_TOKEN, ROOMS, LocalSettings, copy_name, port_knob
from infra.local.state import StateDir
from infra.local.supervisor import Supervisor
from libs.common.errors import ConfigError

PORT_GRACE_S = 1.0
"""How long a port may still be held by a system that was killed a moment ago."""

PARENT_EVERY_S = 0.5

_DEFAULTS = {
    "LOG_FORMAT": "json",
    "PYTHONUNBUFFERED": "1",
    "TICKET_SIGNING_KEY": "1",
    # No balancer needs a warning here, and all three layers have to be gone within ten seconds.
    "DRAIN_S": "0",
    "SHUTDOWN_S": "2.5",
}

Command = Callable[[str], tuple[str, ...]]


def room_command(room: str) -> tuple[str, ...]:
    """How a room is started. Tests give `run_system` another one, which starts small fakes."""
    return (sys.executable, "-m", f"services.{room}")


async def run_system(settings: LocalSettings, *, parent: int | None = None, command: Command = room_command) -> None:
    """Run until SIGTERM, SIGINT or SIGHUP, or until the process `parent` has ended; then leave nothing behind.

    Raises ConfigError with one sentence when the system cannot be brought up.
    """
    state = StateDir(settings.state_dir)
    with state.lock():
        state.prepare()
        state.choose_sockets()
        await _ports_are_free(settings)
        backends = await choose_backends(settings, state)
        addresses = {**_room_urls(settings), **backends.urls}
        rooms = _room_children(settings, {**addresses, **_socket_urls(settings, state)}, state, command)
        guardian = Guardian()
        display = Display(state.log("supervisor"))
        supervisor = Supervisor([*backends.children, *rooms], guardian, state.log, display.say)
        display.start(lambda: [life.status() for life in supervisor.lives.values()])
        control = Control(supervisor, addresses, settings.rules)
        end = _ending(supervisor, display.say)
        try:
            await guardian.start()
            await control.listen(state.sockets / "control.sock")
            up = asyncio.create_task(_bring_up(settings, state, backends, supervisor, display.say), name="bring up")
            ends = asyncio.create_task(end.wait(), name="end")
            watch = asyncio.create_task(_parent_is_there(parent), name="parent")
            await _first_to_end(up, ends, watch)
        finally:
            control.close()
            await supervisor.stop()
            state.close_sockets()
            display.say("stopped")
            display.close()


async def _first_to_end(up: asyncio.Task[None], *ends: asyncio.Task[object]) -> None:
    """Wait for one of `ends`, or for `up` to fail; raises what `up` raised."""
    waiting: set[asyncio.Task[object]] = set(ends)
    try:
        await asyncio.wait({up, *waiting}, return_when=asyncio.FIRST_COMPLETED)
        if up.done():
            up.result()
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (up, *waiting):
            task.cancel()
        await asyncio.gather(up, *waiting, return_exceptions=True)


async def _bring_up(
    settings: LocalSettings, state: StateDir, backends: Backends, supervisor: Supervisor, say: Callable[[str], None]
) -> None:
    if settings.static_tokens:
        which = DEMO_TOKEN if settings.static_tokens == DEMO_TOKEN else f"{len(settings.static_tokens.split(','))} set"
        say(f"WARNING STATIC_TOKENS ({which}): whoever sends one walks past the waiting line; for load tests only")
    if "mongo" in settings.ports:
        say("mongo is a stand-in that speaks MongoDB's protocol, not MongoDB: see docs/native-backends.md")
    for step in backends.before:
        say(f"{step.name} under way; see {state.log(step.name)}")
        await supervisor.take(step)
    await supervisor.start_base()
    for step in backends.after:
        await supervisor.take(step)
    supervisor.start_others()
    await supervisor.wait_ready(name for room in ROOMS for name in settings.names(room))
    await load_demo_once(settings, state, say)
    say(f"ready {settings.public_url}")


def _ending(supervisor: Supervisor, say: Callable[[str], None]) -> asyncio.Event:
    """An event that the first polite signal sets; the second one makes the supervisor hurry. Under `nohup` SIGHUP is
    none of them: whoever typed it wants the system to outlive the terminal."""
    end = asyncio.Event()

    def on(number: signal.Signals) -> None:
        if end.is_set():
            supervisor.hurry()
            return
        say(f"stopping ({number.name})")
        end.set()

    hang_up = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)
    for number in (signal.SIGTERM, signal.SIGINT, *hang_up):
        asyncio.get_running_loop().add_signal_handler(number, on, number)
    return end


async def _parent_is_there(parent: int | None) -> None:
    # `make` that is killed with -9 can tell nobody; its supervisor would run on without an owner.
    while parent is None or os.getppid() == parent:  # noqa: ASYNC110 (nobody sets an event)
        await asyncio.sleep(PARENT_EVERY_S)


async def _ports_are_free(settings: LocalSettings) -> None:
    deadline = time.monotonic() + PORT_GRACE_S
    for name, port in settings.ports.items():
        while not port_is_free(port):
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"{port_knob(name)}: port {port} ({name}) is in use; choose another, or stop what listens there"
                )
            await asyncio.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """TCP ports of the loopback that nobody listens on at the moment, all different."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


def port_is_free(port: int) -> bool:
    """True when nothing listens on the loopback at this TCP port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _room_urls(settings: LocalSettings) -> dict[str, str]:
    """Where the services find each other, by the name of the setting: one address for each copy, commas between."""

    def urls(part: str) -> str:
        return ",".join(f"http://127.0.0.1:{settings.ports[name]}" for name in settings.names(part))

    return {f"{part.upper()}_URL": urls(part) for part in (*ROOMS, "admin")}


def _socket_urls(settings: LocalSettings, state: StateDir) -> dict[str, str]:
    """The same over UNIX sockets: for calls between services on one machine a little cheaper than loopback TCP."""
    return {
        f"{room.upper()}_URL": ",".join(f"unix://{state.sockets / name}.sock" for name in settings.names(room))
        for room in ROOMS
        if room != "gateway"
    }


def _room_children(
    settings: LocalSettings, addresses: Mapping[str, str], state: StateDir, command: Command
) -> list[Child]:
    """All copies of all rooms, first copies first."""
    common = {
        **{name: settings.environment.get(name) or default for name, default in _DEFAULTS.items()},
        **addresses,
        # Loopback whatever the shell exports: some set HOST to the machine's own name.
        "HOST": "127.0.0.1",
        "CLOCK_SKEW_S": settings.clock_skew_s,
        "STATIC_TOKENS": settings.static_tokens,
    }
    children = []
    for number, room in product(range(1, settings.copies + 1), ROOMS):
        name = copy_name(room, number)
        port = settings.ports[name]
        env = {**common, "PORT": str(port), "INSTANCE": str(number)}
        if room == "gateway":
            env["ADMIN_PORT"] = str(settings.ports[copy_name("admin", number)])
        else:
            env["LISTEN_SOCKET"] = str(state.sockets / f"{name}.sock")
        if room in ("gateway", "queue"):
            env["TICKET_KEYS"] = settings.environment.get("TICKET_KEYS") or state.ticket_keys()
        children.append(
            Child(name, command(room), env, http_ready(port), port=port, layer=2 if room == "gateway" else 1)
        )
    return children


def control_socket(state_dir: Path) -> Path:
    """Where a system that runs in `state_dir` listens for verbs."""
    return StateDir(state_dir).sockets / "control.sock"
