"""Tell a broker again what it has lost: the events of the last while, as the services' outboxes have kept them.

    BROKER_URL=… STORE_URL=… python -m libs.common.messaging.retell --since-s 600
    BROKER_URL=… STORE_URL=… python -m libs.common.messaging.retell --since-s 600 --service wallet --dry-run

For a broker that came back without its data, or with yesterday's. Sales come right without it: what waits for an answer
asks again. What nobody asks for again comes late, a visit that goes on after its purchase, say. May be stopped and
repeated at any moment, and while people buy: handlers take every event twice, and in any order. Published events are
kept for a day.
"""

import asyncio
import os
from typing import Annotated

import typer

from libs.common.errors import ConfigError, Problem
from libs.common.messaging.opening import open_bus
from libs.common.messaging.ports import EventBus
from libs.common.metrics import CommonMetrics
from libs.common.storage.opening import open_store
from libs.common.system import SystemClock

SERVICES = ("queue", "catalog", "reservation", "wallet")
"""Those that tell something."""

BATCH_COUNT_MAX = 500
SINCE_MAX_S = 24 * 60 * 60
STOPPED = 1

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def retell(
    since_s: Annotated[int, typer.Option(min=1, max=SINCE_MAX_S, help="how far back, in seconds")],
    service: Annotated[str, typer.Option(help="only this service's events")] = "",
    rate: Annotated[float, typer.Option(min=1, max=10_000, help="events per second, at most")] = 1_000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be told")] = False,
) -> None:
    """What cannot work is one sentence and exit code 1."""
    try:
        asyncio.run(_retell(service, since_s, rate, dry_run=dry_run))
    except (ConfigError, Problem) as wrong:
        typer.echo(str(wrong), err=True)
        raise typer.Exit(STOPPED) from None


async def _retell(service: str, since_s: int, rate: float, *, dry_run: bool) -> None:
    if service not in ("", *SERVICES):
        raise ConfigError(f"--service: {service!r} tells nothing; one of {', '.join(SERVICES)}")
    clock, urls = SystemClock(), {name: os.environ.get(name, "") for name in ("BROKER_URL", "STORE_URL")}
    for setting, url in urls.items():
        if not url:
            raise ConfigError(f"{setting} is not set; make retell takes both from the system that runs")
    from_ms = clock.now_ms() - since_s * 1000
    bus = open_bus(urls["BROKER_URL"], f"retell-{os.getpid()}", clock, CommonMetrics("retell"))
    try:
        await bus.start()
        for name in [service] if service else SERVICES:
            count = await _tell(name, urls["STORE_URL"], from_ms, None if dry_run else bus, rate)
            typer.echo(f"{name}: {count} events {'would be ' if dry_run else ''}told again")
    finally:
        await bus.stop()


async def _tell(service: str, store_url: str, from_ms: int, bus: EventBus | None, rate: float) -> int:
    """How many events of one service there are from that time on; told to `bus`, if there is one."""
    store, count, last = open_store(store_url, service, SystemClock()), 0, ""
    await store.start()
    try:
        while batch := await store.published_since(from_ms, last, BATCH_COUNT_MAX):
            if bus is not None:
                await bus.publish(batch)
                await asyncio.sleep(len(batch) / rate)
            count, last = count + len(batch), batch[-1].id
    finally:
        await store.stop()
    return count


if __name__ == "__main__":
    app()
