"""What an engine reports becomes samples, and what it lacks becomes a sentence."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from loadtest.engines.k6 import K6, Recorded, measured, scenario
from loadtest.engines.locust import Reports
from loadtest.engines.ports import EngineMissing, Sample
from loadtest.plan import plan_of
from loadtest.profiles import PROFILES
from loadtest.tally import Tally


def report(at_s: float, *, requests: int = 0, **counts: int) -> str:
    tally = Tally()
    tally.counts.update(counts)
    for _ in range(requests):
        tally.request("poll", 5.0, 7.0)
    return json.dumps({"at_s": at_s, "began_s": 1_000.0, "is_over": False, "tally": tally.as_json()}) + "\n"


def test_reports_of_two_workers_become_one_sample_per_stretch(tmp_path: Path) -> None:
    file = tmp_path / "reports.jsonl"
    file.write_text(
        report(1.0, started=10) + report(1.1, started=11) + report(2.0, requests=30) + report(2.1, dropped=1)
    )
    reports = Reports(file)
    assert reports.read() == []
    with file.open("a") as rest:
        rest.write(report(3.6, started=5) + report(4.0)[:20])
    (sample,) = reports.read()
    assert (sample.at_s, sample.span_s, sample.started, sample.dropped, sample.requests) == (2.0, 2.0, 21, 1, 30)
    assert sample.p95 == pytest.approx(5.0, rel=0.02)
    assert sample.intended_p95 == pytest.approx(7.0, rel=0.02)
    assert reports.total.counts["started"] == 26
    assert reports.began_s == 1_000.0
    (last,) = reports.read(is_over=True)
    assert (last.at_s, last.started) == (4.0, 5)


def test_k6_offers_the_profile_s_own_rates() -> None:
    told = scenario(plan_of(PROFILES["spike"]))
    assert told["executor"] == "ramping-arrival-rate"
    assert [stage["target"] for stage in told["stages"]] == [1905, 1905, 190, 190]
    assert told["timeUnit"] == "10s"
    assert told["stages"][0]["duration"] == "1.000s"
    assert told["preAllocatedVUs"] == PROFILES["spike"].users_max


def test_k6_keeps_the_report_s_crowd_of_the_queue_looping() -> None:
    told = scenario(plan_of(PROFILES["seed-queue"]))
    assert told["executor"] == "ramping-vus"
    assert [stage["target"] for stage in told["stages"]] == [5000, 5000, 0]


def test_the_recorder_s_figures_are_found_by_the_sorted_names() -> None:
    recorded = Recorded()
    events: Sequence[tuple[str, Any]] = (
        ("metric", {"time": {"type": "gauge"}}),
        ("start", [[5_000]]),
        ("metric", {name: {"type": "counter"} for name in ("http_reqs", "begun", "iterations", "answer_refused")}),
        ("metric", {"answer_failures": {"type": "counter"}, "http_req_duration": {"type": "trend"}}),
        ("snapshot", [[10, 5], [4, 2], [6, 3], [9, 90, 3, 1, 7, 8, 20], [40, 20], [5, 2.5], [7_000]]),
    )
    samples = [sample for event, data in events for sample in recorded.take({"event": event, "data": data})]
    assert samples == [
        Sample(at_s=2.0, span_s=2.0, started=6, completed=5, requests=40, p50=3, p95=8, p99=20, failures=10, refused=4,
               intended_p95=samples[0].intended_p95)
    ]  # fmt: skip
    assert math.isnan(samples[0].intended_p95)


def test_k6_s_answers_are_told_apart_as_outcomes_shed_and_failures() -> None:
    def counted(count: int) -> dict[str, Any]:
        return {"values": {"count": count}}

    times = {"values": {"med": 1.0, "p(90)": 2.0, "p(95)": 3.0, "p(99)": 4.0, "max": 5.0}}
    seen = measured(
        {
            "http_req_duration": {**times, "thresholds": {"p(95)<2": {"ok": False}, "max>0": {"ok": True}}},
            "http_req_duration{name:pay}": times,
            "http_reqs": counted(100),
            "answer_outcomes": counted(7),
            "answer_outcomes{kind:SEAT_TAKEN}": counted(7),
            "answer_refused": counted(2),
            "answer_refused{kind:status 503}": counted(2),
            "answer_failures": counted(4),
            "answer_failures{kind:status 422}": counted(1),
            "answer_failures{kind:status 500}": counted(0),
            "begun": counted(20),
            "iterations": counted(18),
        }
    )
    assert seen.counts == {"started": 20, "completed": 18, "interrupted": 2, "requests": 100, "dropped": 0}
    assert (seen.outcomes, seen.refused) == ({"SEAT_TAKEN": 7}, {"status 503": 2})
    assert seen.failures == {"status 422": 1, "another kind": 3}
    assert seen.broken == ["http_req_duration p(95)<2"]
    assert seen.steps == {"pay": {"p50": 1.0, "p90": 2.0, "p95": 3.0, "p99": 4.0, "max": 5.0}}


def test_without_k6_one_sentence_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineMissing, match=r"k6: not on PATH; .+ gets it; `make load ENGINE=locust` needs nothing"):
        K6("booking")
