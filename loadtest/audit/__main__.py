"""Audit a system: `python -m loadtest.audit`, or `make audit`.

Exit code 0: every claim that could be checked holds. 1: one does not. 2: something could not be read.
"""

import gc
import json
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from libs.common.errors import ConfigError
from loadtest.audit import clients, events, line, liveness, money, seats
from loadtest.audit.doors.ports import CannotRead
from loadtest.audit.history import Call, read_history
from loadtest.audit.looking import look
from loadtest.audit.place import Place, find
from loadtest.audit.report import Report
from loadtest.audit.verdict import Check, Unchecked
from loadtest.audit.view import View
from loadtest.audit.world import World

OFFENCES, UNREADABLE = 1, 2
FILE_WIDTH = 200
"""Columns of the table where no terminal says how many there are."""

FAMILIES = (seats, money, line, liveness, events)


def judged(world: World, history: Sequence[Call] | None, view: View | None) -> list[Check]:
    """Every claim on one look. Raises CannotRead."""
    try:
        found = [check for family in FAMILIES for check in family.checks(world)]
        if history is not None:
            found += clients.checks(world, history)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise CannotRead(
            f"a document is not of the shape that services write ({type(error).__name__}: {error}, met in "
            f"{Path(place.filename).name}:{place.lineno})"
        ) from error
    if view is not None:
        found += view.checks(world)
    return found


def unchecked(place: Place, history: Sequence[Call] | None, view: View | None) -> list[Unchecked]:
    """What this audit cannot show, and why."""
    found = list(place.unchecked)
    if not history:
        found.append(
            Unchecked("I6 I9 I11 I12 I15", "what clients saw: no history with a call was given (HISTORY=FILE)")
        )
    if view is None:
        found.append(Unchecked("I14", "the catalog's view: no gateway was named (LIVE=http://127.0.0.1:8080)"))
    found.append(Unchecked("I12", "wallet routes, which carry no identity"))
    found.append(Unchecked("I15", "tasks, descriptors and memory of the processes: stores do not show them"))
    return found


def audit(
    history: Annotated[Path | None, typer.Option(help="what clients saw: JSON lines, see the README")] = None,
    live: Annotated[str | None, typer.Option(help="URL of a gateway, to compare what the catalog shows")] = None,
    settle_s: Annotated[
        float, typer.Option(min=0, max=600, help="load and faults are over: what is not at rest by then is an offence")
    ] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="for machines")] = False,
) -> None:
    """Read every store, stream and dead letter of the system in STATE_DIR, and say what does not hold."""
    began_s = time.monotonic()
    # Millions of objects and no cycle among them: the collector would go over all of them again and again.
    gc.disable()
    place = find()
    calls = None if history is None else read_history(history)
    view = None
    if live is not None:
        if not place.token:
            raise ConfigError("STATIC_TOKENS: none is set, and without one nobody can ask the catalog at any time")
        view = View(live, place.token)

    def judge() -> tuple[World, list[Check]]:
        world = place.reader.read()
        return world, judged(world, calls, view)

    seen = look(judge, is_running=place.is_running, settle_s=settle_s)
    report = Report(seen, unchecked(place, calls, view), time.monotonic() - began_s)
    if as_json:
        print(json.dumps(report.as_json()))
    else:
        console = Console(width=None if sys.stdout.isatty() else FILE_WIDTH)
        console.print(report.as_table())
    raise typer.Exit(OFFENCES if seen.offence_count else 0)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(audit)
    try:
        app()
    except (CannotRead, ConfigError) as sentence:
        print(sentence, file=sys.stderr)
        sys.exit(UNREADABLE)
