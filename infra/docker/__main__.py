"""The command line of the containers: `python -m infra.docker VERB`, or `make VERB`."""

import os
import sys
from typing import Annotated

import typer

from infra.docker import engine
from libs.common.errors import ConfigError

app = typer.Typer(help="Check the images, and run the system in containers.", no_args_is_help=True)


@app.command()
def image_check() -> None:
    """Build and run every image without a container engine."""
    from infra.docker.checking import check_images  # noqa: PLC0415 (the other verbs need not what it imports)

    check_images()


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def serve(command: Annotated[list[str], typer.Argument(help="a program and its arguments")]) -> None:
    """Run a program beside a Kafka, MongoDB and Redis in containers. Without an engine it is skipped, or, with
    REQUIRE_CONTAINERS=1, a failure."""
    if not engine.is_there():
        needed = os.environ.get("REQUIRE_CONTAINERS") == "1"
        for name in (word for word in command if word.endswith(".py")):
            print(f"{'FAILED' if needed else 'SKIPPED'} {name}: no container engine, `docker info` does not answer")
        raise typer.Exit(needed)
    from infra.docker.serving import serve as serve_containers  # noqa: PLC0415 (likewise)

    raise typer.Exit(serve_containers(command))


@app.command()
def up() -> None:
    """Build the images, start the system in containers and wait until it is healthy."""
    engine.up()
    first_port = os.environ.get("GATEWAY_PORT", "8080").partition("-")[0]
    print(f"ready http://127.0.0.1:{first_port}")


@app.command()
def down() -> None:
    """Stop the containers; what they stored stays."""
    engine.down()


if __name__ == "__main__":
    try:
        app()
    except ConfigError as sentence:
        print(sentence, file=sys.stderr)
        sys.exit(1)
