"""What thresholds make of a run."""

from collections import Counter
from dataclasses import replace

import pytest

from loadtest.figures import HOLDS, MISSED, figures, judge
from loadtest.profiles import PROFILES, Profile, Threshold
from loadtest.watching import read_pages, settled_p95
from tests.load.runs import TIMES, a_run


def verdict_of(profile: Profile = PROFILES["load"], **counts: int) -> tuple[str, int]:
    run = a_run(profile)
    run.measured.counts = Counter({**run.measured.counts, **counts})
    verdict = judge(run, figures(run))
    return verdict.first_line, verdict.exit_code


def test_a_run_within_its_thresholds_passes() -> None:
    assert verdict_of() == ("passed: every threshold holds", HOLDS)


def test_a_missed_threshold_is_named_with_what_was_seen_and_wanted() -> None:
    run = a_run()
    run.measured.latency = {**TIMES, "p95": 180.0}
    verdict = judge(run, figures(run))
    assert verdict.exit_code == MISSED
    assert "p95, ms: 180, wanted ≤ 100" in verdict.first_line


def test_a_generator_that_dropped_starts_fails_the_run_in_its_first_line() -> None:
    first_line, code = verdict_of(started=3000, dropped=400)
    assert code == MISSED
    assert first_line.startswith("FAILED: the generator fell behind (started of offered: 0.88")


def test_a_generator_whose_core_was_busy_fails_the_run() -> None:
    run = a_run()
    readings = [replace(reading, cpu={"locust worker 1": 0.95}) for reading in run.readings]
    run.readings = [*run.readings[:10], *readings[10:16], *run.readings[16:]]
    verdict = judge(run, figures(run))
    assert verdict.exit_code == MISSED
    assert "the generator fell behind (busiest ten seconds of the generator's core: 0.95" in verdict.first_line


def test_under_an_overload_a_generator_that_fell_behind_is_told_of_and_no_failure() -> None:
    overload = replace(PROFILES["load"], overloads=True, thresholds=(Threshold("failures", at_most=0),))
    first_line, code = verdict_of(overload, started=3000, dropped=400)
    assert first_line.startswith("the generator fell behind (started of offered: 0.88")
    assert code == HOLDS


def test_a_seat_taken_is_no_failure_and_a_refusal_under_load_is_one_of_its_own() -> None:
    run = a_run()
    run.measured.outcomes["hold: 409 SEAT_TAKEN"] = 50
    assert judge(run, figures(run)).exit_code == HOLDS
    run.measured.refused["hold: 503 OVERLOADED"] = 1
    assert "requests shed (429, 503): 1" in judge(run, figures(run)).first_line


def test_an_offence_of_the_audit_fails_any_run() -> None:
    run = a_run(PROFILES["breakpoint"], audit_offences=1)
    assert "offences the audit found: 1" in judge(run, figures(run)).first_line


def test_what_could_not_be_seen_is_not_checked_and_no_failure() -> None:
    run = a_run(PROFILES["seed-queue"], readings=(), audit_offences=None)
    run.measured.counts["started"] = 5_000
    verdict = judge(run, figures(run))
    unchecked = {each.threshold.figure for each in verdict.checked if each.holds is None}
    assert unchecked == {"cpu_ms_per_request", "audit_offences", "generator_busy"}
    assert verdict.exit_code == HOLDS


def test_a_threshold_of_the_script_itself_counts() -> None:
    run = a_run()
    run.measured.broken = ["http_req_duration p(95)<1"]
    assert "the script's own threshold http_req_duration p(95)<1" in judge(run, figures(run)).first_line


def test_the_breakpoint_is_the_rate_at_which_the_bad_samples_began() -> None:
    run = a_run(PROFILES["breakpoint"], broke=True)
    rate_per_s = PROFILES["breakpoint"].rate_per_s
    assert judge(run, figures(run)).first_line.endswith(". it broke at 143 iterations/s. passed: every threshold holds")
    assert figures(run)["breaks_at_per_s"] == pytest.approx((60 - 6) / 180 * rate_per_s)


def test_pages_of_metrics_are_added_up_over_services_and_labels() -> None:
    page = (
        'stagedoor_queue_waiting_people{room="1"} 40.0\nstagedoor_queue_waiting_people{room="2"} 2.0\n'
        "stagedoor_outbox_oldest_seconds 0.5\n"
        'stagedoor_reservation_settle_seconds_bucket{le="0.1"} 90.0\n'
        'stagedoor_reservation_settle_seconds_bucket{le="0.5"} 100.0\n'
        'stagedoor_reservation_settle_seconds_bucket{le="+Inf"} 100.0\n'
    )
    series, settled = read_pages([page, "stagedoor_outbox_oldest_seconds 0.2\n"])
    assert series == {"waiting": 42.0, "outbox_age_s": 0.5}
    assert settled_p95(settled, {}) == 0.5
    assert settled_p95({**settled, float("inf"): 200.0}, {}) == 0.5
    assert settled_p95(settled, {0.1: 0.0, 0.5: 10.0, float("inf"): 10.0}) == 0.1
