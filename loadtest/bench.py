"""Run one k6 script at one load against a fresh system on this machine, and print what it cost.

    python -m loadtest.bench booking --script PATH/booking.js --users 600 --seconds 60 --runs 3
    python -m loadtest.bench queue   --script PATH/queue.js   --users 5000

The script's `default` function is used as it is; only its `options` are replaced. `booking` offers evenly started
iterations at the rate that so many users can start (think times of 10.5 s a purchase); `queue` ramps its users up,
holds and ramps down over `--seconds`. Every run starts its own system with empty state, warms it for 10 s with the
same script, then measures. Milliseconds are k6's; CPU seconds are the kernel's, by process, divided by the requests
that k6 completed. A run whose generator dropped iterations or kept its core above 80 % says so in its first line.
Everything talks to the loopback only, is bounded in time and ends by itself. Exit code 2: a run could not be made.

`make load ENGINE=k6` judges one run by thresholds, and counts and records around the script as it goes. Here nothing
but the script runs, so that k6's CPU is the same yardstick as in every table before.
"""

import json
import os
import resource
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from loadtest.command import run_command
from loadtest.engines import k6
from loadtest.engines.ports import EngineFailed
from loadtest.fresh_system import PORT, FreshSystem
from loadtest.profiles import THINK_S

KINDS = ("booking", "queue")
WARM_UP_S = 10
OVERDUE_S = 60.0
"""A k6 that is not over so long after its time is asked to end, and killed when it does not."""

PERCENTILES = ("med", "p(90)", "p(95)", "p(99)", "max", "avg")

WRAPPER = """
import run from '%(script)s';
export const options = %(options)s;
export default run;
export function handleSummary(data) { return { '%(summary)s': JSON.stringify(data) }; }
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What to offer: a kind of scenario, a number of users, a number of seconds."""

    kind: str
    script: Path
    users: int
    seconds: int

    def options(self, seconds: int) -> dict[str, Any]:
        """k6 options for a run of so many seconds."""
        if self.kind == "booking":
            scenario: dict[str, Any] = {
                "executor": "constant-arrival-rate",
                "rate": round(self.users / THINK_S * 10),
                "timeUnit": "10s",
                "duration": f"{seconds}s",
                "preAllocatedVUs": self.users,
                "maxVUs": self.users,
                "gracefulStop": "20s",
            }
        else:
            ramp, rest = max(1, seconds // 3), max(1, seconds - 2 * (seconds // 3))
            stages = [(ramp, self.users), (rest, self.users), (ramp, 0)]
            scenario = {
                "executor": "ramping-vus",
                "startVUs": 0,
                "stages": [{"duration": f"{length}s", "target": target} for length, target in stages],
                "gracefulRampDown": "10s",
                "gracefulStop": "10s",
            }
        return {"scenarios": {self.kind: scenario}, "summaryTrendStats": PERCENTILES, "discardResponseBodies": False}


@dataclass(frozen=True, slots=True)
class Result:
    """One measured run. CPU in seconds by process; latency in ms by percentile."""

    summary: dict[str, Any]
    cpu_s: dict[str, float]
    rss_mb: dict[str, float]
    wall_s: float

    def metric(self, name: str, value: str) -> float:
        return float(self.summary["metrics"].get(name, {}).get("values", {}).get(value, 0))

    @property
    def requests(self) -> float:
        return self.metric("http_reqs", "count")

    def cpu_ms_per_request(self, *names: str) -> float:
        return sum(self.cpu_s[name] for name in names) / max(1, self.requests) * 1000


def measure(load: Load, environment: dict[str, str]) -> Result:
    """One run on a fresh system: warm up, then measure."""
    with FreshSystem(environment) as system, tempfile.TemporaryDirectory() as folder:
        run_k6(load, WARM_UP_S, Path(folder))
        before = system.cpu_s()
        started_s = time.monotonic()
        summary, generator_s = run_k6(load, load.seconds, Path(folder))
        wall_s = time.monotonic() - started_s
        cpu_s = {name: after - before[name] for name, after in system.cpu_s().items()}
        return Result(summary, {**cpu_s, "k6": generator_s}, system.rss_mb(), wall_s)


def run_k6(load: Load, seconds: int, folder: Path) -> tuple[dict[str, Any], float]:
    """Run k6 once; its summary and the CPU seconds it took. Raises EngineFailed."""
    wrapper, summary = folder / "run.js", folder / "summary.json"
    options = json.dumps(load.options(seconds))
    wrapper.write_text(WRAPPER % {"script": load.script.resolve(), "options": options, "summary": summary})
    before_s = _ended_children_s()
    process = subprocess.Popen(
        [*k6.COMMAND, "--log-output=none", str(wrapper)],
        env={**os.environ, "BASE_URL": f"http://127.0.0.1:{PORT}"}, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        process.wait(timeout=seconds + OVERDUE_S)
    except subprocess.TimeoutExpired:
        raise EngineFailed(f"k6 was not over {OVERDUE_S:g} s after its time") from None
    finally:
        if process.poll() is None:
            k6.end(process)
    if process.returncode:
        # The summary that is there now may be the warm-up's.
        raise EngineFailed(f"k6 ended with {process.returncode}; run {load.script} by itself to see why")
    return json.loads(summary.read_text()), _ended_children_s() - before_s


def _ended_children_s() -> float:
    """CPU seconds of all processes that this one has started and seen the end of."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def report(results: list[Result], load: Load) -> None:
    """Print the table of a series of runs: median and range."""
    services = [name for name in results[0].cpu_s if name != "k6"]

    def row(label: str, values: list[float], digits: int = 1) -> None:
        low, middle, high = min(values), statistics.median(values), max(values)
        print(f"{label:34} {middle:10.{digits}f}   [{low:.{digits}f} … {high:.{digits}f}]")

    for result in results:
        busy = result.cpu_s["k6"] / result.wall_s
        dropped = result.metric("dropped_iterations", "count")
        if dropped or busy > 0.8:
            print(f"! the generator dropped {dropped:.0f} iterations and kept {busy:.0%} of a core busy")
    offered = load.users / THINK_S * load.seconds if load.kind == "booking" else 0
    print(f"{load.kind}: {load.users} users, {load.seconds} s, {len(results)} runs; median [range]")
    if offered:
        row("iterations offered", [offered], 0)
    row("iterations completed", [result.metric("iterations", "count") for result in results], 0)
    row("requests", [result.requests for result in results], 0)
    row("requests/s", [result.metric("http_reqs", "rate") for result in results], 0)
    for percentile in PERCENTILES:
        row(f"latency {percentile} ms", [result.metric("http_req_duration", percentile) for result in results], 2)
    row("checks failed", [result.metric("checks", "fails") for result in results], 0)
    for name in services:
        row(f"CPU ms/request {name}", [result.cpu_ms_per_request(name) for result in results], 3)
    row("CPU ms/request, all of the product", [result.cpu_ms_per_request(*services) for result in results], 3)
    row("CPU ms/request k6", [result.cpu_ms_per_request("k6") for result in results], 3)
    row("k6, share of one core", [result.cpu_s["k6"] / result.wall_s for result in results], 2)
    for name in services:
        row(f"RSS MB {name}", [result.rss_mb[name] for result in results], 0)
    for group in results[-1].summary["root_group"]["checks"]:
        print(f"  check {group['name']!r}: {group['passes']} passed, {group['fails']} failed (last run)")


def main(
    kind: Annotated[str, typer.Argument(help=" or ".join(KINDS))],
    script: Annotated[Path, typer.Option(exists=True, help="the k6 script to run as it is")],
    users: Annotated[int, typer.Option(min=1, max=10_000)] = 600,
    seconds: Annotated[int, typer.Option(min=5, max=900)] = 60,
    runs: Annotated[int, typer.Option(min=1, max=10)] = 1,
) -> None:
    """Measure one load; settings of the system (DEMO_SCHEDULES, ROOM_CAPACITY, …) come from the environment."""
    if kind not in KINDS:
        raise typer.BadParameter(f"there are {' and '.join(KINDS)}")
    k6.need_k6()
    load = Load(kind, script, users, seconds)
    usual = {"DEMO_SCHEDULES": "300", "DEMO_SEATS": "250", "ROOM_CAPACITY": "500"}
    environment = {name: os.environ.get(name, value) for name, value in usual.items()}
    print(f"system: {environment}")
    report([measure(load, environment) for _ in range(runs)], load)


if __name__ == "__main__":
    run_command(main)
