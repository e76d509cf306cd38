"""Offer a fresh system four times what it can do, and see that it defends itself: `make overload`.

    python -m loadtest.overload --seconds 60

Exit code 1 when a bound is missed. Generator and system share the machine, so figures are of both; what the generator
takes of its core is told. Loopback only, bounded in time.
"""

import asyncio
import gc
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console

from infra.local.settings import PORTS_PER_COPY
from loadtest.fresh_system import ROOT, FreshSystem, ports_in_a_row
from loadtest.overload import course, report
from loadtest.overload.mix import Mix, Shop
from loadtest.overload.offering import Offering
from loadtest.raw_client import RawClient

SETTLE_S, AUDIT_TIMEOUT_S = 45.0, 180.0
"""Longer than PAY_DEADLINE_S: what was under way is over by then, one way or the other."""

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


def audit(system: FreshSystem, url: str, mix: Mix) -> int | None:
    """Offences the auditor found, with all that holds and payments were promised; None when it could not look."""
    with tempfile.NamedTemporaryFile(prefix="stagedoor-history-") as seen:
        Path(seen.name).write_bytes(b"\n".join(mix.written_history().lines))
        done = subprocess.run(
            [sys.executable, "-m", "loadtest.audit", "--json", "--history", seen.name, "--live", url,
             "--settle-s", str(SETTLE_S)],
            cwd=ROOT, env=system.variables, capture_output=True, text=True, timeout=AUDIT_TIMEOUT_S, check=False,
        )  # fmt: skip
    try:
        return int(json.loads(done.stdout)["offences"])
    except (ValueError, KeyError):
        print(f"the audit could not look: {done.stderr.strip()}")
        return None


def main(
    seconds: Annotated[float, typer.Option(min=2, max=600, help="how long too much is offered")] = 60.0,
) -> None:
    """Find the peak, offer four times as much, go back to half of it; print the table."""
    port, shop = ports_in_a_row(PORTS_PER_COPY), Shop()
    with FreshSystem(shop.environment, port=port) as system:
        outcome, mix = uvloop.run(measured(port, shop, course.Course(overload_s=seconds)))
        offences = audit(system, f"http://127.0.0.1:{port}", mix)
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    bounds = report.bounds(outcome, offences)
    report.show(console, outcome, bounds)
    sys.exit(0 if all(bound.holds for bound in bounds) else 1)


if __name__ == "__main__":
    typer.run(main)
