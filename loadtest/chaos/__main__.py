"""Chaos experiments: `python -m loadtest.chaos run|list|report`, or `make chaos`.

Exit code 0: all that ran held. 1: a bound was broken. 2: a setting names nothing, or a file is no experiment.
"""

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from libs.common.errors import ConfigError
from loadtest.chaos.files import all_experiments, chosen
from loadtest.chaos.report.kept import keep, kept
from loadtest.chaos.report.page import page
from loadtest.chaos.report.tables import results, told
from loadtest.chaos.running import BROKEN, logs_of, run
from loadtest.chaos.target import backends, check_settings, skipped
from loadtest.command import heed_sigterm

BROKEN_CODE, SETTING_CODE = 1, 2

app = typer.Typer(help="Break a running system in many ways, and see what people notice.", no_args_is_help=True)
Folder = Annotated[Path, typer.Option(help="where the results of runs are kept")]


@app.command("run")
def run_command(
    experiment: Annotated[str, typer.Option(help="F4, a file's name, several with commas; empty: all")] = "",
    seeds: Annotated[int, typer.Option(min=0, max=10_000, help="runs of each; 0: each of its variants once")] = 0,
    first: Annotated[int, typer.Option(min=0, help="the first seed")] = 0,
    folder: Folder = Path(".chaos"),
) -> None:
    """Make experiments, one after the other, and print what each is judged by."""
    heed_sigterm()  # the library does while it makes an experiment, and a run is more than that
    logging.getLogger("chaostoolkit").setLevel(logging.CRITICAL)  # what it says is told with each run
    console = Console(width=None if sys.stdout.isatty() else 160)
    check_settings()
    wanted = chosen(experiment)
    kept(folder)  # what cannot be read is told now, and not after all runs
    broken = 0
    for each in wanted:
        for seed in range(first, first + (seeds or len(each.terms.variants))):
            made = run(each, seed, folder)
            console.print(told(made))
            if logs_of(made, folder).is_dir():
                print(f"logs: {logs_of(made, folder)}")
            keep(made, folder)
            broken += made.result == BROKEN
    write_page(folder)
    raise typer.Exit(BROKEN_CODE if broken else 0)


@app.command("list")
def list_command() -> None:
    """Name every experiment, and why it would be skipped here."""
    on = backends()
    for each in all_experiments():
        why = skipped(each, on)
        print(f"{each.terms.fault:4} {each.name:34} {each.content['title']}{f'  [skipped: {why}]' if why else ''}")


@app.command("report")
def report_command(
    folder: Folder = Path(".chaos"),
    table: Annotated[Path | None, typer.Option(help="a Markdown page to write the table to")] = None,
) -> None:
    """Write the page with plots from all kept runs, and the table."""
    runs = kept(folder)
    if not runs:
        raise ConfigError(f"--folder: no run is kept in {folder}; make some with make chaos")
    write_page(folder)
    if table is not None:
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text(results(runs, [each.name for each in all_experiments()]))
        print(f"written: {table}")


def write_page(folder: Path) -> None:
    target = folder / "report.html"
    target.write_text(page(kept(folder)))
    print(f"written: {target}")


if __name__ == "__main__":
    try:
        app()
    except ConfigError as sentence:
        print(sentence, file=sys.stderr)
        sys.exit(SETTING_CODE)
