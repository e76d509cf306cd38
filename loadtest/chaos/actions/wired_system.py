"""The system of `make run`, made to be disturbed: `python -m loadtest.chaos.actions.wired_system [--parent PID]`.

It takes the same settings, says the same lines and ends in the same way. In addition

- the fault proxy runs beside it, and is on every wire between its parts: `redis`, `kafka` and `mongo`, as far as the
  system runs them itself, one to each copy of a service by its name, and `gateway` for clients. A tool that asks the
  supervisor for addresses gets the real ones, and is not disturbed; a client of Kafka is, because Kafka itself sends it
  there;
- each process has a clock of its own (`loadtest.chaos.actions.clock`), where libfaketime is installed.

CHAOS_CONTROL   host:port of the proxy's control interface; unset: a free port, told in STATE_DIR/wired/control
CHAOS_SEED      what the proxy's chance is drawn from; 0
"""

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from infra.local.redis_server import find_redis_server, socket_url
from infra.local.settings import DATABASE, ROOMS, LocalSettings
from infra.local.state import StateDir
from infra.local.system import run_system
from infra.native.kafka_server import kafka_url
from infra.native.mongo_server import mongo_url
from libs.common.errors import ConfigError
from loadtest.chaos.actions import clock, place, toxics

PROXY_S = 20.0
STOP_S = 8.0
ANY_PORT = "127.0.0.1:0"

# One process from the supervisor's point of view: the shell becomes the service, and gives it its clock by its name.
_START = """
name=$1 clocks=$2; shift 2
[ "$INSTANCE" = 1 ] || name=$name-$INSTANCE
export FAKETIME_TIMESTAMP_FILE=$clocks/$name
exec env "$@"
"""

_START_REDIS = """#!/bin/sh
export LD_PRELOAD={library} FAKETIME_TIMESTAMP_FILE={clocks}/redis {preloaded}
exec {binary} "$@"
"""


async def run(parent: int | None) -> None:
    """Until SIGTERM, or the end of the process `parent`, like `make run`.

    Raises ConfigError with one sentence when it cannot be brought up.
    """
    settings = LocalSettings.from_environment()
    state = StateDir(settings.state_dir)
    with state.lock():  # another one that runs there has its own wires
        state.prepare()
        state.choose_sockets()
    with _wired_folder(), tempfile.TemporaryDirectory(prefix="stagedoor-wires-") as folder:
        wires = Path(folder)
        async with _proxy() as control:
            toxics.control_file().write_text(f"{control}\n")
            urls = await asyncio.to_thread(_lay_wires, settings, state, wires, control)
            faked = _set_clocks(settings, wires)
            given = [f"{name}={value}" for name, value in {**urls, **faked}.items()]

            def command(room: str) -> tuple[str, ...]:
                start = ("/bin/sh", "-c", _START, "wired", room, str(clock.folder()))
                return (*start, *given, sys.executable, "-m", f"services.{room}")

            # Read anew: where the wires are has changed the environment.
            await run_system(LocalSettings.from_environment(), parent=parent, command=command)


@contextmanager
def _wired_folder() -> Iterator[None]:
    folder = place.wired_folder()
    shutil.rmtree(folder, ignore_errors=True)  # of one that was killed
    folder.mkdir(mode=0o700)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def _proxy() -> AsyncIterator[str]:
    """The proxy for the time of a block, and its control address. In a group of its own: a Ctrl-C is for the system
    first, which still talks while it stops."""
    control = os.environ.get("CHAOS_CONTROL") or ANY_PORT
    options = ("--control", control, "--seed", os.environ.get("CHAOS_SEED") or "0", "--parent", str(os.getpid()))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "loadtest.chaos.proxy", *options), stdout=asyncio.subprocess.PIPE, process_group=0
    )
    try:
        assert process.stdout is not None  # noqa: S101 (it was asked for)
        said = ""
        with suppress(TimeoutError):
            async with asyncio.timeout(PROXY_S):
                said = (await process.stdout.readline()).decode().strip()
        if not said.startswith("ready "):
            raise ConfigError(f"CHAOS_CONTROL: the fault proxy does not start at {control}")
        yield said.rpartition("/")[2]
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            process.kill()


def _lay_wires(settings: LocalSettings, state: StateDir, wires: Path, control: str) -> dict[str, str]:
    """Make every proxy; where the services find each other through them, by the name of the setting."""

    def wire(name: str, upstream: str, listen: str = ANY_PORT) -> int:
        return int(toxics.make(name, listen, upstream, control).rpartition(":")[2])

    def socket_wire(name: str) -> Path:
        path = wires / f"{name}.sock"
        toxics.make(name, f"unix:{path}", f"unix:{state.sockets / name}.sock", control)
        return path

    urls: dict[str, str] = {}
    if settings.redis_url is None:
        urls["REDIS_URL"] = socket_url(socket_wire("redis"))
        if settings.broker_url is None:
            urls["BROKER_URL"] = urls["REDIS_URL"]
    if "kafka" in settings.ports:
        port = wire("kafka", f"127.0.0.1:{settings.ports['kafka']}")
        urls["BROKER_URL"] = kafka_url(port)
        os.environ["KAFKA_ADVERTISED_PORT"] = str(port)
    if "mongo" in settings.ports:
        urls["STORE_URL"] = mongo_url(wire("mongo", f"127.0.0.1:{settings.ports['mongo']}"), DATABASE)
    for room in ROOMS:
        if room != "gateway":
            urls[f"{room.upper()}_URL"] = ",".join(
                f"unix://{quote(str(socket_wire(name)))}" for name in settings.names(room)
            )
    for name in settings.names("gateway"):
        wire(name, f"127.0.0.1:{settings.ports[name]}")
    return urls


def _set_clocks(settings: LocalSettings, wires: Path) -> Mapping[str, str]:
    """Give every process a clock that is right, as far as there is a library for it; what services are started with."""
    library = clock.library()
    if library is None:
        return {}
    clocks = clock.folder()
    clocks.mkdir(mode=0o700, exist_ok=True)
    for name in ("redis", *(name for room in ROOMS for name in settings.names(room))):
        (clocks / name).write_text(f"{clock.RIGHT}\n")
    if settings.redis_url is None:
        preloaded = " ".join(f"{name}={value}" for name, value in clock.PRELOADED.items())
        script = wires / "redis-server"
        script.write_text(
            _START_REDIS.format(library=library, clocks=clocks, preloaded=preloaded, binary=find_redis_server())
        )
        script.chmod(0o700)
        os.environ["PATH"] = f"{wires}{os.pathsep}{os.environ['PATH']}"
    return {"LD_PRELOAD": str(library), **clock.PRELOADED}


if __name__ == "__main__":
    try:
        asyncio.run(run(parent=int(sys.argv[-1]) if "--parent" in sys.argv else None))
    except ConfigError as sentence:
        print(sentence, file=sys.stderr)
        sys.exit(1)
