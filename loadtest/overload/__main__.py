"""Offer a fresh system four times what it can do, and see that it defends itself: `make overload`.

    python -m loadtest.overload --seconds 60

Exit code 0: every bound is kept. 1: one is missed. 2: the run could not be made. Generator and system share the
machine, so figures are of both; what the generator takes of its core is told. Loopback only, bounded in time.
"""

import asyncio
import gc
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console

from infra.local.settings import PORTS_PER_COPY
from loadtest.auditing import audit
from loadtest.command import run_command
from loadtest.errors import CannotRun
from loadtest.fresh_system import FreshSystem, ports_in_a_row
from loadtest.overload import course, report
from loadtest.overload.mix import Mix, Shop
from loadtest.overload.offering import Offering
from loadtest.raw_client import RawClient

PREPARE_S = 60.0
WIDTH = 150


async def measured(port: int, shop: Shop, plan: course.Course) -> tuple[course.Outcome, Mix]:
    """Take a system that nobody else uses through the course."""
    client, mix = RawClient(port), Mix(shop)
    try:
        async with asyncio.timeout(PREPARE_S):
            await client.start()
            await mix.prepare(client)
        gc.collect()
        gc.freeze()  # or the generator's own collections would be everybody's latency
        return await course.run(Offering(client, mix), plan), mix
    finally:
        client.stop()


def audited(system: FreshSystem, url: str, mix: Mix) -> int | None:
    """Offences the auditor found, with all that holds and payments were promised; None when it could not look."""
    with tempfile.NamedTemporaryFile(prefix="stagedoor-history-") as seen:
        history = Path(seen.name)
        history.write_bytes(b"\n".join(mix.written_history().lines))
        try:
            return audit(system.variables, url, history)
        except CannotRun as why:  # the figures are worth telling all the same
            print(why)
            return None


def main(
    seconds: Annotated[float, typer.Option(min=2, max=600, help="how long too much is offered")] = 60.0,
) -> None:
    """Find the peak, offer four times as much, go back to half of it; print the table."""
    port, shop = ports_in_a_row(PORTS_PER_COPY), Shop()
    with FreshSystem(shop.environment, port=port) as system:
        outcome, mix = uvloop.run(measured(port, shop, course.Course(overload_s=seconds)))
        offences = audited(system, f"http://127.0.0.1:{port}", mix)
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    bounds = report.bounds(outcome, offences)
    report.show(console, outcome, bounds)
    sys.exit(0 if all(bound.holds for bound in bounds) else 1)


if __name__ == "__main__":
    run_command(main)
