"""Run the fault proxy: `python -m loadtest.chaos.proxy --control 127.0.0.1:8474`.

It says where it can be told what to do, and runs until SIGTERM or Ctrl-C, or until the process named by `--parent` has
ended; then it closes everything it opened.
"""

import argparse
import asyncio
import os
import signal
import sys
from contextlib import suppress

import uvloop
from aiohttp import web

from loadtest.chaos.proxy.addresses import check
from loadtest.chaos.proxy.control import Control

STOP_S = 5.0
PARENT_EVERY_S = 0.5


async def serve(host: str, port: int, seed: int, parent: int | None) -> None:
    """Raises OSError when the control address cannot be had."""
    control = Control(seed)
    runner = web.AppRunner(control.app(), access_log=None, shutdown_timeout=1.0)
    end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end.set)
    try:
        await runner.setup()
        site = web.TCPSite(runner, host, port)
        await site.start()
        print(f"ready http://{host}:{runner.addresses[0][1]}", flush=True)
        await _ended(end, parent)
    finally:
        with suppress(TimeoutError):  # what is open still is closed by the kernel
            async with asyncio.timeout(STOP_S):
                await runner.cleanup()
                await control.close()


async def _ended(end: asyncio.Event, parent: int | None) -> None:
    """Return at a polite signal, or when the parent is gone: one that was killed can tell nobody."""
    while parent is None or os.getppid() == parent:
        with suppress(TimeoutError):
            async with asyncio.timeout(None if parent is None else PARENT_EVERY_S):
                await end.wait()
                return


def _tcp(address: str) -> str:
    try:
        if not address.startswith("unix:"):
            return check(address)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"expected host:port (given: {address!r})")


def main() -> None:
    parser = argparse.ArgumentParser(prog="loadtest.chaos.proxy", description=__doc__)
    parser.add_argument("--control", default="127.0.0.1:8474", type=_tcp, help="host:port of the control interface")
    parser.add_argument("--seed", default=0, type=int, help="what the toxics' chance is drawn from")
    parser.add_argument("--parent", default=None, type=int, help="stop when the process with this pid has ended")
    given = parser.parse_args()
    host, _, port = given.control.rpartition(":")
    try:
        uvloop.run(serve(host, int(port), given.seed, given.parent))
    except OSError as why:
        print(f"--control: cannot listen on {given.control}: {why.strerror}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
