"""The load made by k6, from our own scripts or from anybody's: the profile's shape around the script's `default`.

A wrapper keeps the script's options but for the scenario, and has every answer counted by what it means
(`loadtest/k6/answers.js`); the script's own `setup`, `teardown` and `handleSummary` are left out. k6 writes what it saw
in each stretch of time through the recorder of its dashboard, which opens no port here. It has no time that counts from
the intended start: a start that finds no free user is dropped and counted, so only its own lateness is missing.
"""

import json
import math
import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from loadtest.answers import PEOPLES_BUSINESS, SHED
from loadtest.engines.ports import SAMPLE_S, STOP_TIMEOUT_S, EngineFailed, EngineMissing, Measured, Sample
from loadtest.fresh_system import ROOT
from loadtest.plan import Plan

SCRIPTS = {"booking": "booking.js", "queue": "queue.js"}
STATUSES = (400, 401, 402, 403, 404, 405, 408, 409, 410, 413, 415, 422, 500, 502, 504)
KINDS = {
    "outcomes": (*PEOPLES_BUSINESS, "sold out", "not settled yet"),
    "refused": tuple(f"status {status}" for status in SHED),
    "failures": ("no answer", *(f"status {status}" for status in STATUSES)),
}
"""The kinds of each counter that k6's summary is asked to tell apart; others are told of as `another kind`."""

RATE_UNIT_S = 10
"""k6 takes whole numbers of starts; per ten seconds they are fine enough."""

COMMAND = ("k6", "run", "--quiet", "--no-usage-report")

WRAPPER = """
import { Counter } from 'k6/metrics';
import %(answers)s;
import * as script from %(script)s;
const begun = new Counter('begun');
const own = script.options || {};
export const options = Object.assign({}, own, %(options)s);
options.thresholds = Object.assign({}, own.thresholds, %(thresholds)s);
export default function (data) { begun.add(1); return script.default(data); }
export function handleSummary(data) { return { %(summary)s: JSON.stringify(data) }; }
"""


class K6:
    """By `script`, or by ours for the scenario. Raises EngineMissing where there is no k6, or no such script."""

    name = "k6"

    def __init__(self, scenario: str, script: Path | None = None) -> None:
        need_k6()
        if script is None and scenario not in SCRIPTS:
            raise EngineMissing(f"k6: there is no script of ours for {scenario}; ENGINE=locust, or SCRIPT=path")
        self._is_ours = script is None
        self._script = (script or ROOT / "loadtest/k6" / SCRIPTS[scenario]).resolve()

    def start(self, plan: Plan, url: str, folder: Path) -> "K6Run":
        return K6Run(plan, url, self._script, folder, is_ours=self._is_ours)


def need_k6() -> None:
    """Raises EngineMissing where there is none."""
    if shutil.which("k6") is None:
        raise EngineMissing(
            "k6: not on PATH; `go install go.k6.io/k6@latest` or https://grafana.com/docs/k6 gets it; "
            "`make load ENGINE=locust` needs nothing"
        )


def end(process: "subprocess.Popen[bytes]") -> None:
    """Ask a k6 that runs to end, which makes it write its summary; kill one that does not."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout=STOP_TIMEOUT_S)


def scenario(plan: Plan) -> dict[str, Any]:
    """The plan as a k6 scenario. People who come once are so many looping users: a script cannot be told to end."""
    grace = f"{round(plan.grace_s)}s"
    if plan.comes_once:
        quiet = next(number for number, ramp in enumerate(plan.ramps) if not ramp.rate_per_s)
        come_s = sum(ramp.seconds for ramp in plan.ramps[:quiet])
        stages = [(come_s, plan.users_max), (max(1.0, plan.seconds - 2 * come_s), plan.users_max), (come_s, 0)]
        return {
            "executor": "ramping-vus",
            "startVUs": 0,
            "stages": [{"duration": f"{seconds:.3f}s", "target": users} for seconds, users in stages],
            "gracefulRampDown": grace,
            "gracefulStop": grace,
        }
    stages = [(ramp.seconds, round(ramp.rate_per_s * RATE_UNIT_S)) for ramp in plan.ramps]
    return {
        "executor": "ramping-arrival-rate",
        "startRate": 0,
        "timeUnit": f"{RATE_UNIT_S}s",
        "stages": [{"duration": f"{seconds:.3f}s", "target": rate} for seconds, rate in stages],
        "preAllocatedVUs": plan.users_max,  # k6 drops the start for which it makes a user on the way
        "gracefulStop": grace,
    }


class K6Run:
    """One process of k6, and what it has recorded. The thresholds of a script of ours are for who runs it by itself:
    here the profile has its own, which may well ask for something else."""

    def __init__(self, plan: Plan, url: str, script: Path, folder: Path, *, is_ours: bool) -> None:
        self._is_ours = is_ours
        self._record, self._summary = folder / "record.jsonl", folder / "summary.json"
        self._record.write_text("")
        self._log = folder / "k6.log"
        self._recorded = Recorded()
        self._read_bytes = 0
        wrapper = folder / "run.js"
        options = {
            "scenarios": {"load": scenario(plan)},
            "summaryTrendStats": ["med", "p(90)", "p(95)", "p(99)", "max"],
            "discardResponseBodies": False,  # the code is in there
        }
        # A threshold is what makes k6 tell a kind apart.
        thresholds = {f"answer_{name}{{kind:{kind}}}": ["count>=0"] for name, kinds in KINDS.items() for kind in kinds}
        wrapper.write_text(
            WRAPPER
            % {
                "answers": json.dumps(str(ROOT / "loadtest/k6/answers.js")),
                "script": json.dumps(str(script)),
                "options": json.dumps(options),
                "thresholds": json.dumps(thresholds),
                "summary": json.dumps(str(self._summary)),
            }
        )
        recorder = f"web-dashboard=port=-1&period={round(SAMPLE_S)}s&record={self._record}"
        variables = {**os.environ, "BASE_URL": url, "WALLETS": str(plan.wallets), "TOKEN": plan.token,
                     "POLL_S": str(plan.polls_every_s or "")}  # fmt: skip
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*COMMAND, "--out", recorder, str(wrapper)],
                env=variables, stdout=log, stderr=log,
            )  # fmt: skip

    def is_running(self) -> bool:
        return self._process.poll() is None

    def processes(self) -> Mapping[str, psutil.Process]:
        return {"k6": psutil.Process(self._process.pid)} if self.is_running() else {}

    def began_s(self) -> float | None:
        return None if math.isnan(self._recorded.began_ms) else self._recorded.began_ms / 1000

    def samples(self) -> Sequence[Sample]:
        found: list[Sample] = []
        with self._record.open() as file:
            file.seek(self._read_bytes)
            while (line := file.readline()).endswith("\n"):
                self._read_bytes = file.tell()
                found += self._recorded.take(json.loads(line))
        return found

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(timeout=STOP_TIMEOUT_S)

    def finish(self) -> Measured:
        if self.is_running():
            end(self._process)
        if not self._summary.exists():
            said = self._log.read_text().strip().splitlines()[-2:]
            raise EngineFailed(f"k6 ended with {self._process.returncode}: {' / '.join(said)}")
        found = measured(json.loads(self._summary.read_text())["metrics"])
        return replace(found, broken=()) if self._is_ours else found


class Recorded:
    """Makes samples of the recorder's events: names first, then, by these names in order, figures of each stretch."""

    def __init__(self) -> None:
        self._types: dict[str, str] = {}
        self.began_ms = math.nan
        self._last_s = 0.0

    def take(self, told: Mapping[str, Any]) -> Iterator[Sample]:
        data = told["data"]
        if told["event"] == "metric":
            self._types |= {name: metric["type"] for name, metric in data.items()}
        elif told["event"] == "start":
            self.began_ms = data[0][0]
        elif told["event"] == "snapshot":
            yield self._sample(dict(zip(sorted(self._types), data, strict=False)))

    def _sample(self, seen: Mapping[str, Sequence[float]]) -> Sample:
        at_s = (seen["time"][0] - self.began_ms) / 1000
        span_s, self._last_s = at_s - self._last_s, at_s

        def count(name: str) -> int:
            return round(seen[name][0]) if seen.get(name) else 0

        requests = count("http_reqs")
        _, _, p50, _, _, p95, p99 = seen.get("http_req_duration") or [math.nan] * 7
        return Sample(
            at_s=at_s,
            span_s=span_s,
            started=count("begun"),
            completed=count("iterations"),
            dropped=count("dropped_iterations"),
            requests=requests,
            p50=p50 if requests else math.nan,
            p95=p95 if requests else math.nan,
            p99=p99 if requests else math.nan,
            outcomes=count("answer_outcomes"),
            refused=count("answer_refused"),
            failures=count("answer_failures"),
        )


_NAMES = {"p50": "med", "p90": "p(90)", "p95": "p(95)", "p99": "p(99)", "max": "max"}


def measured(metrics: Mapping[str, Any]) -> Measured:
    """What k6's summary says."""

    def count(name: str) -> int:
        return round(metrics[name]["values"]["count"]) if name in metrics else 0

    def times(name: str) -> dict[str, float]:
        return {ours: metrics[name]["values"][theirs] for ours, theirs in _NAMES.items()}

    steps = {
        name.removeprefix("http_req_duration{name:").removesuffix("}"): times(name)
        for name in metrics
        if name.startswith("http_req_duration{name:")
    }

    def kinds(name: str) -> Counter[str]:
        found = Counter({kind: count(f"answer_{name}{{kind:{kind}}}") for kind in KINDS[name]})
        found["another kind"] = count(f"answer_{name}") - found.total()
        return +found

    return Measured(
        counts=Counter(
            started=count("begun"),
            completed=count("iterations"),
            interrupted=count("begun") - count("iterations"),
            dropped=count("dropped_iterations"),
            requests=count("http_reqs"),
        ),
        latency=times("http_req_duration"),
        steps=steps,
        outcomes=kinds("outcomes"),
        refused=kinds("refused"),
        failures=kinds("failures"),
        broken=[
            f"{name} {threshold}"
            for name, metric in metrics.items()
            for threshold, result in metric.get("thresholds", {}).items()
            if not result["ok"]
        ],
    )
