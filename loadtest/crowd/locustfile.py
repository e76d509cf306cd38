"""Arrival-rate load in locust: what `loadtest.engines.locust` starts, as one master and some workers.

Locust itself keeps a number of looping users busy, which measures a system by its own pace. Here each worker has one
locust user, the `Door`, which lets visitors in when they are due (`loadtest.arrivals`) and does nothing else; what is
locust's are the processes, the messages between them and the HTTP client. With every report to the master goes what
was counted since the last one; the master writes each as a line of JSON to `LOAD_REPORTS` and ends the run when all
workers are done. The plan comes in `LOAD_PLAN`.
"""

import gc
import json
import os
import time
from pathlib import Path
from typing import Any

import gevent
from gevent.pool import Group
from locust import User, events, runners, task
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import MasterRunner, WorkerRunner

from loadtest.arrivals import Arrivals, Pool, Start, share
from loadtest.crowd.visitors import VISITORS, GaveUp, Scenario
from loadtest.plan import Plan
from loadtest.tally import Drain

PLAN = Plan.from_json(os.environ["LOAD_PLAN"])
WORKERS = int(os.environ["LOAD_WORKERS"])

# Locust reports every three seconds, which is too coarse to see a spike.
runners.WORKER_REPORT_INTERVAL = float(os.environ["LOAD_REPORT_S"])


class Part:
    """What one worker does: its counts, when it began (by `perf_counter`, and since the epoch), whether it is over."""

    def __init__(self) -> None:
        self.drain = Drain()
        self.began = 0.0
        self.began_s: float | None = None
        self.is_over = False

    def now_s(self) -> float:
        return time.perf_counter() - self.began if self.began else 0.0

    def begin(self) -> None:
        self.began, self.began_s = time.perf_counter(), time.time()

    def report(self) -> dict[str, Any]:
        return {
            "at_s": self.now_s(),
            "began_s": self.began_s,
            "is_over": self.is_over,
            "tally": self.drain.take().as_json(),
        }


part = Part()


class Door(User):
    """Lets this worker's share of the visitors in."""

    fixed_count = WORKERS

    @task
    def open(self) -> None:
        number = self._number()
        ready, count_max = (share(count, number, WORKERS) for count in (PLAN.users_ready, PLAN.users_max))
        pool = Pool(self._make, ready, count_max)
        arrivals = Arrivals(PLAN.ramps, pool, number, WORKERS)
        group = Group()
        # Thousands of visitors, and no cycle among them: a collection would hold up every start.
        gc.freeze()
        part.begin()
        while arrivals.next_due_s is not None:
            gevent.sleep(max(0.0, arrivals.next_due_s - part.now_s()))
            for start in arrivals.starts(part.now_s()):
                self._let_in(start, pool, group)
        rest_s = PLAN.seconds - part.now_s()
        group.join(timeout=max(0.0, rest_s) + PLAN.grace_s)
        group.kill(timeout=5)
        part.is_over = True
        raise StopUser

    def _let_in(self, start: Start[Scenario], pool: Pool[Scenario], group: Group) -> None:
        if start.user is None:
            part.drain.tally.counts["dropped"] += 1
            return
        part.drain.tally.counts["started"] += 1
        part.drain.tally.late.add((part.now_s() - start.due_s) * 1000)
        start.user.due = part.began + start.due_s
        group.spawn(self._visit, start.user, pool)

    def _visit(self, visitor: Scenario, pool: Pool[Scenario]) -> None:
        try:
            visitor.iteration()
        except GaveUp:
            pass
        except Exception as error:  # noqa: BLE001 (whatever a scenario did not expect is a failure people should see)
            part.drain.tally.failures[f"answer not understood: {type(error).__name__} {error}"] += 1
        part.drain.tally.counts["completed"] += 1
        pool.give_back(visitor)

    def _make(self) -> Scenario:
        return VISITORS[PLAN.scenario](self.environment, PLAN, part.drain)

    def _number(self) -> int:
        runner = self.environment.runner
        return runner.worker_index if isinstance(runner, WorkerRunner) else 0


def send_part(data: dict[str, Any], **_: Any) -> None:
    data["load"] = part.report()


def gather(environment: Environment, **_: Any) -> None:
    """On the master: write down what workers report, and stop when every one of them is done."""
    if not isinstance(environment.runner, MasterRunner):
        return
    runner = environment.runner
    reports = Path(os.environ["LOAD_REPORTS"]).open("a", buffering=1)  # noqa: SIM115 (as long as the process)
    over: set[str] = set()

    def write(client_id: str, data: dict[str, Any], **_: Any) -> None:
        reports.write(json.dumps(data["load"]) + "\n")
        if data["load"]["is_over"]:
            over.add(client_id)
            if len(over) == WORKERS:
                gevent.spawn(runner.quit)

    environment.events.worker_report.add_listener(write)  # type: ignore[no-untyped-call]


# Locust's hooks carry no types.
events.report_to_master.add_listener(send_part)  # type: ignore[no-untyped-call]
events.init.add_listener(gather)  # type: ignore[no-untyped-call]
