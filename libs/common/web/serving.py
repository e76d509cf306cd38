"""Run an app as a process: `python -m services.<room>`.

Start: settings, app, sockets; `gc.freeze()` once everything long-lived exists, which keeps collections short.
Stop on SIGTERM or SIGINT: say not-ready, let load balancers notice, stop accepting, finish what runs, stop the parts.
"""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import uvloop
from aiohttp import web

from libs.common import log
from libs.common.config import ServiceSettings
from libs.common.errors import ConfigError, DependencyDown
from libs.common.web.app import HEALTH
from libs.common.web.runner import Refuse, Runner

S = TypeVar("S", bound=ServiceSettings)

GC_THRESHOLDS = (20_000, 20, 20)
"""Python's own would look for cycles every 700 objects, several times a request, and find next to nothing."""

INSIDE_KEEPALIVE_S = 75.0
"""Longer than our clients keep a connection (15 s), so that a request never meets a closing one."""

NO_MEMORY = b"no memory for a step that all wait for: ending, to be started anew\n"
EXIT_NO_MEMORY = 71
STDERR = 2
SURVIVORS = frozenset({"transport", "future", "task"})
"""What such a failure can be about without harm to others: the loop closed this connection, or this task has ended."""

logger = log.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Listening:
    """An app and where it listens; `refuse` is asked before a request is parsed. The first of several owns the parts
    and drains."""

    app: web.Application
    port: int
    keepalive_s: float = INSIDE_KEEPALIVE_S
    refuse: Refuse | None = None


def main(service: str, settings_type: type[S], listening: Callable[[S], Sequence[Listening]]) -> None:
    """The whole life of a service process. A setting that cannot work, or a part that is down at the start, is one
    sentence on stderr and exit 1."""
    try:
        settings = settings_type.from_environment()
        log.configure(service, settings.instance, settings.log_level, settings.log_format)
        uvloop.run(_serve(listening(settings), settings))
    except (ConfigError, DependencyDown) as wrong:  # whoever runs the process starts it again after a pause
        print(f"{service}: {wrong}", file=sys.stderr)  # noqa: T201  the one sentence a person reads
        sys.exit(1)


async def _serve(listening: Sequence[Listening], settings: ServiceSettings) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(end_without_memory)
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopping.set)
    runners = [
        Runner(each.app, keepalive_s=each.keepalive_s, shutdown_s=settings.shutdown_s, refuse=each.refuse)
        for each in listening
    ]
    try:
        for each, runner in zip(listening, runners, strict=True):
            await runner.setup()
            await _listen(runner, settings.host, each.port)
        if settings.listen_socket:
            await _listen_beside(runners[0], settings.listen_socket)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        logger.info("listening", ports=[each.port for each in listening])
        await stopping.wait()
        listening[0].app[HEALTH].draining = True
        logger.info("stopping")
        await asyncio.sleep(settings.drain_s)
    finally:
        for runner in runners:
            await runner.cleanup()


def end_without_memory(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """End the process where a step of the loop itself, or a thread that all wait for, found no memory, and log whatever
    else nobody handled.

    What that step was to do is lost: a socket whose connection could not be made accepts none ever after, a timer or a
    wake-up never comes. Every state we have outlives a kill, and none outlives a process that only looks alive.
    """
    if isinstance(context.get("exception"), MemoryError) and not SURVIVORS & context.keys():
        os.write(STDERR, NO_MEMORY)
        os._exit(EXIT_NO_MEMORY)
    loop.default_exception_handler(context)


async def _listen(runner: web.AppRunner, host: str, port: int) -> None:
    try:
        await web.TCPSite(runner, host, port, backlog=4096).start()
    except OSError as error:
        raise ConfigError(f"PORT: cannot listen on {host}:{port}: {error.strerror}") from error


async def _listen_beside(runner: web.AppRunner, path: str) -> None:
    """For callers on the same machine: a UNIX socket costs them a tenth less than loopback TCP."""
    try:
        await web.UnixSite(runner, path, backlog=4096).start()
    except OSError as error:
        raise ConfigError(f"LISTEN_SOCKET: cannot listen on {path}: {error.strerror}") from error
