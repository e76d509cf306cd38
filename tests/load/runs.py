"""Runs as an engine would have told of them, for tests that judge and print them."""

from collections import Counter
from dataclasses import replace
from typing import Any

from loadtest.engines.ports import Measured, Sample
from loadtest.figures import Run
from loadtest.plan import plan_of
from loadtest.profiles import PROFILES, Profile
from loadtest.watching import Reading

SERIES = {"waiting": 12.0, "inside": 3.0, "offered": 1.0, "held_back": 0.0, "outbox_pending": 0.0, "lag": 2.0,
          "paying": 1.0, "due": 0.0, "in_flight": 4.0, "outbox_age_s": 0.1, "settle_p95_s": 0.05}  # fmt: skip
TIMES = {"p50": 3.0, "p90": 8.0, "p95": 10.0, "p99": 20.0, "max": 90.0}


def a_run(profile: Profile = PROFILES["load"], **changes: Any) -> Run:
    """A run of a minute in which all went well, with the changes named."""
    plan = plan_of(profile)
    samples = [
        Sample(at_s=at_s, span_s=2.0, started=114, completed=110, requests=680, p50=3, p95=10, p99=20, intended_p95=12)
        for at_s in range(2, 62, 2)
    ]
    readings = [
        Reading(
            at_s=float(at_s),
            cpu={"gateway": 0.2, "locust worker 1": 0.3},
            cpu_s={"gateway": at_s * 0.2, "locust worker 1": at_s * 0.3},
            rss_mb={"gateway": 100.0, "locust worker 1": 90.0},
            series=SERIES,
        )
        for at_s in range(0, 62, 2)
    ]
    counts = Counter(started=3401, completed=3390, interrupted=11, requests=20_400)
    measured = Measured(counts, TIMES, TIMES, TIMES, {"pay": {"count": 3390.0, **TIMES}})
    run = Run(profile, plan, measured, samples, readings, audit_offences=0, generator=("locust worker 1",))
    return replace(run, **changes)
