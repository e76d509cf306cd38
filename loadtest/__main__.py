"""Put one profile's load on a system: `python -m loadtest PROFILE`, or `make load PROFILE=…`.

Exit code 0: every threshold holds. 1: one does not. 2: the run could not be made.
"""

import time
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from infra.local.settings import DEMO_TOKEN
from loadtest import results
from loadtest.command import run_command
from loadtest.engines.k6 import K6
from loadtest.engines.locust import Locust
from loadtest.engines.ports import Engine
from loadtest.errors import CannotRun
from loadtest.figures import figures, judge
from loadtest.fresh_system import ROOT
from loadtest.page import Heading, page
from loadtest.profiles import PROFILES, Profile
from loadtest.running import place, run

REPORTS, RESULTS = ROOT / ".load", ROOT / "docs/load"


def main(
    profile: Annotated[str, typer.Argument(help=", ".join(PROFILES))],
    engine: Annotated[str, typer.Option(help="locust or k6")] = "",
    script: Annotated[Path | None, typer.Option(exists=True, help="a k6 script, whose default function is run")] = None,
    seconds: Annotated[int | None, typer.Option(min=3, max=86_400, help="squeeze all stages into so many")] = None,
    users: Annotated[int | None, typer.Option(min=1, max=100_000, help="instead of the profile's")] = None,
    target: Annotated[str | None, typer.Option(help="URL of a system that runs already")] = None,
    token: Annotated[str, typer.Option(help="one of that system's STATIC_TOKENS")] = DEMO_TOKEN,
    folder: Annotated[
        Path | None, typer.Option(help="for report and results.md, instead of .load and docs/load")
    ] = None,
) -> None:
    """Start a fresh system, warm it, put the load on it, audit it, write the report."""
    if profile not in PROFILES:
        raise CannotRun(f"PROFILE: there are {', '.join(PROFILES)} (given: {profile!r})")
    wanted, changes = _changed(PROFILES[profile], seconds, users)
    chosen = _engine(engine, script, wanted.scenario)
    date = time.gmtime()
    title = " ".join([f"Load: {profile}", *changes])
    say = partial(print, flush=True)  # a pipe would keep what is told back until the end
    say(f"{title}, by {chosen.name}: {wanted.about}")
    with place(wanted, target) as where:
        done = run(wanted, chosen, where, token, say)
    found = figures(done)
    verdict = judge(done, found)
    facts = {
        "date": time.strftime("%Y-%m-%d %H:%M", date),
        "commit": results.commit(),
        "profile": " ".join([profile, *changes]),
        "engine": chosen.name if script is None else f"{chosen.name}, {script.name}",
        "machine": results.machine() if target is None else f"{results.machine()}, system elsewhere",
    }
    heading = Heading(title, {**facts, **_shape(wanted), **({} if target else wanted.data.environment)})
    reports, table = folder or REPORTS, (folder or RESULTS) / "results.md"
    reports.mkdir(parents=True, exist_ok=True)
    report = reports / f"{time.strftime('%Y%m%d-%H%M%S', date)}-{profile}.html"
    report.write_text(page(heading, done, found, verdict))
    results.append(results.line(facts, found, verdict.first_line), table)
    say(f"\n{verdict.first_line}\n{report} has the plots; {table} has a line more")
    raise typer.Exit(verdict.exit_code)


def _changed(profile: Profile, seconds: int | None, users: int | None) -> tuple[Profile, list[str]]:
    given = {"SECONDS": seconds, "USERS": users}
    changes = [f"{name}={value}" for name, value in given.items() if value is not None]
    return profile.scaled(users, seconds), [f"({', '.join(changes)})"] if changes else []


def _shape(profile: Profile) -> dict[str, str]:
    stages = " → ".join(f"{stage.factor:g}× in {stage.seconds:.4g} s" for stage in profile.stages)
    return {
        "users": f"{profile.users:,}, at most {profile.users_max:,}",
        "stages": f"{stages}; 1× is {profile.rate_per_s:.1f} iterations/s",
    }


def _engine(name: str, script: Path | None, scenario: str) -> Engine:
    """A script is k6's; without one, locust unless k6 is asked for."""
    name = name or ("locust" if script is None else "k6")
    if name == "k6":
        return K6(scenario, script)
    if name != "locust":
        raise CannotRun(f"ENGINE: locust or k6 (given: {name!r})")
    if script is not None:
        raise CannotRun("SCRIPT: only k6 runs scripts; leave ENGINE out, or say ENGINE=k6")
    return Locust()


if __name__ == "__main__":
    run_command(main)
