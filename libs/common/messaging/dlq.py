"""Dead letters by hand: look at them, and deliver them again once what killed them is mended.

    BROKER_URL=… python -m libs.common.messaging.dlq list
    BROKER_URL=… python -m libs.common.messaging.dlq show --topic wallet.payments.v1 --limit 5
    BROKER_URL=… python -m libs.common.messaging.dlq replay --group reservation --rate 20 --dry-run

A replay may be stopped and repeated at any moment: handlers are idempotent, and a letter leaves only after its message
is published again. It is rate-limited, so that mending does not become the next overload.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from libs.common.errors import ConfigError, DependencyDown
from libs.common.events.topics import TOPICS
from libs.common.messaging.opening import open_bus
from libs.common.messaging.ports import DeadLetter, EventBus
from libs.common.metrics import CommonMetrics
from libs.common.system import SystemClock

LISTED_COUNT_MAX = 10_000
"""Letters that `list` counts per group; it says so when there are more."""

SHOWN_BYTES_MAX = 400
STOPPED = 1

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console()

Topic = Annotated[str, typer.Option("--topic", help="only this topic")]
Group = Annotated[str, typer.Option("--group", help="only this group")]
Limit = Annotated[
    int, typer.Option("--limit", min=1, max=LISTED_COUNT_MAX, help="letters per topic and group, at most")
]
Rate = Annotated[float, typer.Option("--rate", min=0.1, max=1_000, help="letters per second, at most")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="only say what would be done")]


def places(topic: str, group: str) -> list[tuple[str, str]]:
    """The (topic, group) pairs that can have dead letters, narrowed down. Raises ConfigError when none is left."""
    found = [
        (declared.name, name)
        for declared in TOPICS.values()
        for name in declared.groups
        if topic in ("", declared.name) and group in ("", name)
    ]
    if not found:
        raise ConfigError(
            f"no group {group or 'at all'} takes from topic {topic or 'any'}; see libs/common/events/topics.py"
        )
    return found


@app.command("list")
def list_(topic: Topic = "", group: Group = "") -> None:
    """How many dead letters each group has."""

    async def work(bus: EventBus) -> None:
        table = Table("topic", "group", "letters", "oldest error")
        for name, group_ in places(topic, group):
            letters = await bus.dead_letters(name, group_, LISTED_COUNT_MAX)
            more = "+" if len(letters) == LISTED_COUNT_MAX else ""
            table.add_row(name, group_, f"{len(letters)}{more}", letters[0].error if letters else "")
        console.print(table)

    run(work)


@app.command()
def show(topic: Topic = "", group: Group = "", limit: Limit = 20) -> None:
    """The oldest dead letters in full."""

    async def work(bus: EventBus) -> None:
        for name, group_ in places(topic, group):
            for letter in await bus.dead_letters(name, group_, limit):
                say(letter)

    run(work)


@app.command()
def replay(
    topic: Topic = "", group: Group = "", limit: Limit = 1_000, rate: Rate = 50.0, dry_run: DryRun = False
) -> None:
    """Deliver the oldest dead letters again."""

    async def work(bus: EventBus) -> None:
        for name, group_ in places(topic, group):
            letters = await bus.dead_letters(name, group_, limit)
            for letter in [] if dry_run else letters:
                await bus.redeliver(letter)
                await asyncio.sleep(1 / rate)
            done = "would be replayed" if dry_run else "replayed"
            console.print(f"{name} / {group_}: {len(letters)} {done}", highlight=False)

    run(work)


def say(letter: DeadLetter) -> None:
    """One letter, as an operator reads it."""
    message = letter.message
    console.rule(f"{message.topic} / {letter.group} / {letter.position}", align="left")
    data = message.data[:SHOWN_BYTES_MAX].decode(errors="replace")
    for name, value in (
        ("error", letter.error), ("type", message.type), ("id", message.id), ("key", message.key),
        ("source", message.source), ("trace", message.traceparent), ("data", data),
    ):  # fmt: skip
        console.print(f"{name:7}{value}", markup=False, highlight=False)


def run(work: Callable[[EventBus], Awaitable[None]]) -> None:
    """Do something with the bus of BROKER_URL; what cannot work is one sentence and exit code 1."""

    async def with_bus() -> None:
        url = os.environ.get("BROKER_URL", "")
        if not url:
            raise ConfigError("BROKER_URL is not set; it says which broker has the dead letters")
        bus = open_bus(url, f"dlq-{os.getpid()}", SystemClock(), CommonMetrics("dlq"))
        try:
            await bus.start()
            await work(bus)
        finally:
            await bus.stop()

    try:
        asyncio.run(with_bus())
    except (ConfigError, DependencyDown) as wrong:
        typer.echo(str(wrong), err=True)
        raise typer.Exit(STOPPED) from None


if __name__ == "__main__":
    app()
