"""The command line of the local system: `python -m infra.local VERB`, or `make VERB`."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from infra.local.control import ask
from infra.local.operating import verbs
from infra.local.settings import LocalSettings, state_dir
from infra.local.state import StateDir
from infra.local.system import control_socket, run_system
from libs.common.errors import ConfigError

app = typer.Typer(help="Run the whole system on this machine, and act on it while it runs.", no_args_is_help=True)

Service = Annotated[str, typer.Argument(help="redis, kafka, mongo, queue, queue-2 …: a name that status shows")]
Services = Annotated[str | None, typer.Argument(help="one of them; without it, all services")]


@app.command()
def run(
    parent: Annotated[int | None, typer.Option(help="stop when the process with this pid has ended")] = None,
) -> None:
    """Bring the system up and keep it up until Ctrl-C or SIGTERM."""
    asyncio.run(run_system(LocalSettings.from_environment(), parent=parent))


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="for machines")] = False) -> None:
    """Show each process: pid, port, state, restarts, uptime, memory, CPU."""
    rows = _ask("status")["services"]
    if as_json:
        print(json.dumps(rows))
        return
    from rich.console import Console  # noqa: PLC0415 (the other verbs need not pay for it)

    from infra.local.table import service_table  # noqa: PLC0415

    Console().print(service_table(rows))


@app.command()
def kill(service: Service) -> None:
    """End a service with SIGKILL, as a crash would; the supervisor starts it again."""
    _act("kill", "killed", service)


@app.command()
def pause(service: Services = None) -> None:
    """Freeze a service with SIGSTOP, as a long pause of its machine would."""
    _act("pause", "paused", service)


@app.command()
def resume(service: Services = None) -> None:
    """Let paused services go on."""
    _act("resume", "resumed", service)


@app.command()
def restart(service: Service) -> None:
    """End a service with SIGTERM, as a deployment would, and start it again."""
    _act("restart", "restarting", service)


@app.command()
def load(file: Annotated[Path, typer.Argument(help="a venue as JSON, like infra/local/sample_venue.json")]) -> None:
    """Check a venue file whole, then load it; with CATALOG_URL set, into that catalog."""
    # The loader's libraries take longer to import than any other verb takes altogether.
    from infra.local.load import Loader  # noqa: PLC0415
    from infra.local.venue import read_venue  # noqa: PLC0415

    concert = read_venue(file)
    # Any copy will do.
    catalog_url = (os.environ.get("CATALOG_URL") or _ask("status")["addresses"]["CATALOG_URL"]).partition(",")[0]

    async def put() -> None:
        async with Loader() as loader:
            await loader.put_concert(catalog_url.rstrip("/"), concert)

    asyncio.run(put())
    sections = concert["schedules"][0]["sections"]
    seats = sum(len(row["seats"]) for section in sections for row in section["rows"])
    print(f"concert {concert['id']} loaded: {len(concert['schedules'])} schedules × {seats} seats")


@app.command()
def reset(yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False) -> None:
    """Delete all data of the system in STATE_DIR."""
    state = StateDir(state_dir())
    owned = state.owned()
    if not owned:
        print(f"nothing to delete in {state.path}")
        return
    with state.lock():
        names = ", ".join(path.name for path in owned)
        if not yes and not typer.confirm(f"Delete {names} in {state.path}?"):
            raise typer.Exit(1)
        left = state.delete()
    print(f"deleted: {state.path}" if not left else f"deleted: {names}; not ours, so kept: {', '.join(left)}")


@app.command("with-env", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def with_env(command: Annotated[list[str], typer.Argument(help="a program and its arguments")]) -> None:
    """Run a program with the addresses of the running system (BROKER_URL, STORE_URL, …_URL) in its environment."""
    addresses: dict[str, str] = _ask("status")["addresses"]
    try:
        os.execvpe(command[0], command, {**os.environ, **addresses})  # noqa: S606 (the user's own words)
    except OSError as why:
        raise ConfigError(f"{command[0]}: {why.strerror}") from None


def _address(setting: str) -> str:
    """Where a service is: as the environment says, else where the running system has it."""
    return os.environ.get(setting) or str(_ask("status")["addresses"][setting])


def _ask(verb: str, service: str | None = None) -> dict[str, Any]:
    return ask(control_socket(state_dir()), verb, service)


def _act(verb: str, done: str, service: str | None) -> None:
    for acted in _ask(verb, service)["acted"]:
        print(f"{acted['name']} {done} (pid {acted['pid']})")


app.add_typer(verbs(_address))


if __name__ == "__main__":
    try:
        app()
    except ConfigError as sentence:
        print(sentence, file=sys.stderr)
        sys.exit(1)
