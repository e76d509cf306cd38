"""Expire a cache under its readers, three times at once: `python -m loadtest.incident`, or `make incident`.

The cache of the report's application, that of a library, and ours each get a process of this machine, a store of their
own that is equally slow, and the same readers; one Redis serves all three, each in a database of its own. Exit code 0:
ours kept its bounds. 1: it did not, and which is said. 2: the run could not be made. Loopback only, bounded in time;
ends what it started.
"""

import os
from typing import Annotated

import typer
from rich.console import Console

from loadtest.command import run_command
from loadtest.incident.parallel import run_all
from loadtest.incident.sale import EXPIRING, GONE, PROCESS_COUNT, STORE_DOWN, WARM, Plan
from loadtest.incident.store import POOL_COUNT, READ_S
from loadtest.incident.verdict import misses, side_by_side
from services.catalog.service.cache import Lifetime
from services.catalog.settings import CatalogSettings

MISSED = 1
TABLE_WIDTH = 160


def main(
    readers: Annotated[int, typer.Option(min=1, max=10_000, help="people who read at the same time")] = 2_400,
    schedules: Annotated[int, typer.Option(min=1, max=300, help="schedules of the concert")] = 20,
    seats: Annotated[int, typer.Option(min=1, max=5_000, help="seats of each schedule")] = 250,
    ttl_s: Annotated[float, typer.Option(min=1, max=60, help="how long a copy counts as fresh")] = 8,
    outage_s: Annotated[float, typer.Option(min=2, max=60, help="how long the store is down")] = 60,
) -> None:
    """Show what a cache that expires does to 2,400 readers: without protection, with a library's, with ours."""
    life = Lifetime(ttl_s, CatalogSettings().stale_s, CatalogSettings().absent_ttl_s)
    moments_s = {WARM: 0.6 * ttl_s, EXPIRING: 2.5 * ttl_s, STORE_DOWN: outage_s, GONE: 1.25 * ttl_s}
    plan = Plan(readers, schedules, seats, READ_S, life, moments_s)
    print(
        f"{readers:,} readers in {PROCESS_COUNT} processes of each cache, {schedules} schedules of {seats} seats. "
        f"The store: {READ_S * 1000:.0f} ms a read, {POOL_COUNT} connections. A copy counts as fresh for {ttl_s:g} s "
        f"and may be told for {life.stale_s:g} s more. Load of the machine: {os.getloadavg()[0]:.1f}.\n"
    )
    figures = run_all(plan)
    Console(width=TABLE_WIDTH).print(side_by_side(figures, plan))
    missed = misses(figures["ours"], plan)
    for sentence in missed:
        print(f"missed: {sentence}")
    raise typer.Exit(MISSED if missed else 0)


if __name__ == "__main__":
    run_command(main)
