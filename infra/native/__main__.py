"""The command line of the native backends: `python -m infra.native VERB`."""

import asyncio
import sys
from typing import Annotated

import typer

from infra.native.provision import fetch_jars, parts, prometheus_bin
from infra.native.serving import serve
from libs.common.errors import ConfigError

app = typer.Typer(help="Real backends on a machine without a container engine.", no_args_is_help=True)


@app.command()
def fetch(java_only: Annotated[bool, typer.Option(help="what BACKENDS=native runs, and no more")] = False) -> None:
    """Bring everything into the user's cache folder; what is there already stays as it is."""
    fetch_jars(print)
    if not java_only:
        prometheus_bin(print)
        check()


@app.command()
def check() -> None:
    """Print what is there and what is missing, a line each; exit code 1 when something is missing."""
    found = parts()
    for part in found:
        print(f"{part.name}: {part.where or f'missing; {part.missing}'}")
    if any(part.missing for part in found):
        raise typer.Exit(1)


@app.command()
def path() -> None:
    """Print the folder that PATH needs for `promtool` and `prometheus`; nothing where they are not to be had."""
    found = prometheus_bin(lambda text: print(text, file=sys.stderr))
    if found:
        print(found)


@app.command("serve", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def serve_command(command: Annotated[list[str], typer.Argument(help="a program and its arguments")]) -> None:
    """Run a program beside a fresh Kafka and stand-in for MongoDB: TEST_KAFKA_URL and TEST_MONGO_URL tell it where."""
    raise typer.Exit(asyncio.run(serve(fetch_jars(print), command, print)))


if __name__ == "__main__":
    try:
        app()
    except ConfigError as sentence:
        print(sentence, file=sys.stderr)
        sys.exit(1)
