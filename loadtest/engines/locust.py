"""The load made by locust: one master and two workers on this machine, as processes of our own.

The default, because pip brings it and it counts from the intended start. Two workers, because one process has one core
and a crowd of thousands should not wait for its own generator.
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from infra.local.system import free_ports
from loadtest.engines.ports import SAMPLE_S, STOP_TIMEOUT_S, EngineFailed, Measured, Sample
from loadtest.fresh_system import ROOT
from loadtest.plan import Plan
from loadtest.tally import Tally

WORKERS = 2
REPORT_S, LATE_S = 1.0, 1.5
"""How often a worker reports, and how long a sample waits for one that is late."""

GIVE_UP_S = 30
"""For the workers to come up, beside the run itself."""


class Locust:
    name = "locust"

    def start(self, plan: Plan, url: str, folder: Path) -> "LocustRun":
        return LocustRun(plan, url, folder)


class Reports:
    """The file in which the master notes what each worker counted, a line each, read as it grows.

    A worker reports about once a second; each report counts for the stretch in which its middle lies.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read_bytes = 0
        self._stretches: dict[int, Tally] = {}
        self._next = 0
        self._seen_s = 0.0
        self.total = Tally()
        self.began_s: float | None = None

    def read(self, *, is_over: bool = False) -> list[Sample]:
        """The samples that have become complete; all of them when the run is over."""
        with self._file.open() as file:
            file.seek(self._read_bytes)
            while (line := file.readline()).endswith("\n"):
                self._read_bytes = file.tell()
                self._take(json.loads(line))
        found = []
        while self._stretches and (is_over or self._seen_s >= (self._next + 1) * SAMPLE_S + LATE_S):
            found.append(_sample((self._next + 1) * SAMPLE_S, self._stretches.pop(self._next, Tally())))
            self._next += 1
        return found

    def _take(self, report: Mapping[str, Any]) -> None:
        self.began_s = self.began_s or report["began_s"]
        self._seen_s = max(self._seen_s, report["at_s"])
        tally = Tally.from_json(report["tally"])
        number = max(self._next, int((report["at_s"] - REPORT_S / 2) / SAMPLE_S))
        self._stretches.setdefault(number, Tally()).merge(tally)
        self.total.merge(tally)


def _sample(at_s: float, tally: Tally) -> Sample:
    latency = tally.latency
    return Sample(
        at_s=at_s,
        span_s=SAMPLE_S,
        started=tally.counts["started"],
        completed=tally.counts["completed"],
        dropped=tally.counts["dropped"],
        requests=tally.counts["requests"],
        p50=latency.quantile(0.50),
        p95=latency.quantile(0.95),
        p99=latency.quantile(0.99),
        intended_p95=tally.intended.quantile(0.95),
        outcomes=tally.outcomes.total(),
        refused=tally.refused.total(),
        failures=tally.failures.total(),
    )


class LocustRun:
    """The processes of one run, and what they have reported."""

    def __init__(self, plan: Plan, url: str, folder: Path) -> None:
        file = folder / "reports.jsonl"
        file.write_text("")
        self._reports = Reports(file)
        self._last: list[Sample] = []
        self._log = folder / "locust.log"
        variables = {
            **os.environ,
            "LOAD_PLAN": plan.as_json(),
            "LOAD_WORKERS": str(WORKERS),
            "LOAD_REPORT_S": str(REPORT_S),
            "LOAD_REPORTS": str(file),
        }
        (free,) = free_ports(1)
        port = str(free)
        give_up = f"{round(plan.seconds + plan.grace_s + GIVE_UP_S)}s"
        users = ["--users", str(WORKERS), "--spawn-rate", str(WORKERS), "--run-time", give_up, "--host", url]
        master = ["--headless", "--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", port,
                  "--expect-workers", str(WORKERS), "--expect-workers-max-wait", str(GIVE_UP_S),
                  "--only-summary", "--exit-code-on-error", "0", *users]  # fmt: skip
        worker = ["--worker", "--master-host", "127.0.0.1", "--master-port", port]
        self._processes = {"locust master": self._popen(master, variables)}
        for number in range(1, WORKERS + 1):
            self._processes[f"locust worker {number}"] = self._popen(worker, variables)

    def is_running(self) -> bool:
        return any(process.poll() is None for process in self._processes.values())

    def processes(self) -> Mapping[str, psutil.Process]:
        return {
            name: psutil.Process(process.pid) for name, process in self._processes.items() if process.poll() is None
        }

    def began_s(self) -> float | None:
        return self._reports.began_s

    def samples(self) -> Sequence[Sample]:
        last, self._last = self._last, []
        return last + self._reports.read()

    def stop(self) -> None:
        self._processes["locust master"].terminate()

    def finish(self) -> Measured:
        if self.is_running():
            self.stop()
            give_up_s = time.monotonic() + STOP_TIMEOUT_S
            with suppress(subprocess.TimeoutExpired):
                for process in self._processes.values():
                    process.wait(timeout=max(0.0, give_up_s - time.monotonic()))
            self.kill()
        self._last = self._reports.read(is_over=True)
        total = self._reports.total
        if not total.counts:
            said = self._log.read_text().strip().splitlines()[-3:]
            raise EngineFailed(f"locust started nobody: {' / '.join(said)}")
        return Measured(
            counts=total.counts + Counter(interrupted=total.counts["started"] - total.counts["completed"]),
            latency=total.latency.quantiles(),
            intended=total.intended.quantiles(),
            late=total.late.quantiles(),
            steps={step: {"count": times.total, **times.quantiles()} for step, times in total.steps.items()},
            outcomes=total.outcomes,
            refused=total.refused,
            failures=total.failures,
        )

    def kill(self) -> None:
        """End whatever is left of it."""
        for process in self._processes.values():
            process.kill()
            process.wait(timeout=STOP_TIMEOUT_S)

    def _popen(self, arguments: list[str], variables: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        file = str(ROOT / "loadtest/crowd/locustfile.py")
        command = [sys.executable, "-m", "locust", "-f", file, "--loglevel", "WARNING", *arguments]
        with self._log.open("ab") as log:
            return subprocess.Popen(command, cwd=ROOT, env=dict(variables), stdout=log, stderr=log)
