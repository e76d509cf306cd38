"""What is judged, and how it is told: figures from what people saw, bounds, tables, the page."""

import re
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from libs.common.errors import ConfigError
from loadtest.buying.client import Seen
from loadtest.buying.crowd import Visit
from loadtest.chaos import figures, running, verdict
from loadtest.chaos.figures import Fault, Second
from loadtest.chaos.files import chosen
from loadtest.chaos.report.kept import keep, kept
from loadtest.chaos.report.page import page
from loadtest.chaos.report.tables import results, rows
from loadtest.chaos.running import BROKEN, HELD, SKIPPED, Run
from loadtest.chaos.verdict import Judged

BEGAN_S = 1_000.0
CALM = Second(0, 20, 0, 0.004, 0.010)
FAULT_S = 10


def series(**at: Second) -> list[Second]:
    """Thirty calm seconds but for those given as s12=…"""
    changed = {int(name[1:]): second for name, second in at.items()}
    return [replace(changed.get(place, CALM), at_s=place) for place in range(30)]


def recovery(found: list[Second], until_s: float = 30.0) -> float | None:
    fault = Fault(BEGAN_S + FAULT_S, BEGAN_S + FAULT_S, [(BEGAN_S + FAULT_S, BEGAN_S + FAULT_S)])
    return figures.slowest_recovery_s(found, fault, BEGAN_S, BEGAN_S + until_s)


FAILING = Second(0, 20, 3, 0.004, 0.010)
SLOW = Second(0, 20, 0, 0.5, 0.9)
NOBODY = Second(0, 0, 0, None, None)


def test_calls_are_counted_by_the_second_in_which_they_were_sent_and_only_writes_give_the_latency() -> None:
    seen = [
        Seen(BEGAN_S + 0.2, 0.010, "hold", "201", False),
        Seen(BEGAN_S + 0.9, 3.000, "poll", "200", False),
        Seen(BEGAN_S + 2.1, 0.020, "pay", "503 OVERLOADED", True),
    ]
    assert figures.seconds(seen, BEGAN_S) == [
        Second(0, 2, 0, 0.010, 0.010),
        Second(1, 0, 0, None, None),
        Second(2, 1, 1, 0.020, 0.020),
    ]
    assert figures.errors_by_kind(seen) == {"pay: 503 OVERLOADED": 1}


def test_who_notices_nothing_has_recovered_at_once() -> None:
    assert recovery(series()) == 0.0


def test_recovery_ends_with_the_last_second_in_which_somebody_met_an_error() -> None:
    assert recovery(series(s10=FAILING, s12=FAILING)) == 3.0


def test_one_slow_second_is_the_machine_and_two_in_a_row_are_the_fault() -> None:
    assert recovery(series(s14=SLOW)) == 0.0
    assert recovery(series(s14=SLOW, s15=SLOW)) == 6.0
    assert recovery(series(s14=NOBODY, s15=NOBODY)) == 6.0, "nobody was served"


def test_what_is_still_failing_when_the_watch_ends_has_not_recovered() -> None:
    assert recovery(series(s29=FAILING)) is None
    assert recovery(series(s29=FAILING), until_s=29.0) == 0.0, "that second is not over"


def test_what_follows_the_next_action_of_a_fault_belongs_to_that_one() -> None:
    found = series(s10=FAILING, s18=FAILING, s21=FAILING)
    fault = Fault(BEGAN_S + 10, BEGAN_S + 20, [(BEGAN_S + 9, BEGAN_S + 10), (BEGAN_S + 18.5, BEGAN_S + 20)])
    assert figures.slowest_recovery_s(found, fault, BEGAN_S, BEGAN_S + 30) == 2.0
    still = series(s17=FAILING)
    assert figures.slowest_recovery_s(still, fault, BEGAN_S, BEGAN_S + 30) is None


def test_patience_is_that_of_the_time_before_and_never_less_than_people_notice() -> None:
    assert figures.patience_s([CALM] * 5) == figures.SLOW_FLOOR_S
    assert figures.patience_s([SLOW] * 5) == pytest.approx(2.7)
    assert figures.patience_s([]) == figures.SLOW_FLOOR_S


def test_people_who_were_kept_out_are_told_apart_only_where_the_fault_may_do_that() -> None:
    visits = [
        Visit("buyer", 5.0, 6.0, ""),
        Visit("buyer", 11.0, 17.0, "gave up: pay: 503"),
        Visit("rival", 40, 41, "x"),
    ]
    kept_out = figures.people(visits, closed=(10.0, 20.0))
    assert (kept_out.count, kept_out.failed, kept_out.failed_meanwhile) == (
        3,
        ["rival: x"],
        ["buyer: gave up: pay: 503"],
    )
    assert len(figures.people(visits, closed=None).failed) == 2


@pytest.mark.parametrize("why", ["gave up: hold: 503 DEPENDENCY_DOWN", "payment CANCELLED",
                                 "payment refused: 409 HOLD_EXPIRED", "hold refused: 403 SESSION_EXPIRED"])  # fmt: skip
def test_who_gave_up_or_came_too_late_was_kept_out(why: str) -> None:
    found = figures.people([Visit("buyer", 11.0, 17.0, why)], closed=(10.0, 20.0))
    assert (found.failed, found.failed_meanwhile) == ([], [f"buyer: {why}"])


@pytest.mark.parametrize("why", ["hold refused: 409 SEAT_TAKEN", "payment refused: 402 NOT_ENOUGH_POINTS",
                                 "payment DECLINED", "no outcome of a payment in 90 s"])  # fmt: skip
def test_who_was_refused_what_was_theirs_has_failed_even_while_others_are_kept_out(why: str) -> None:
    found = figures.people([Visit("buyer", 11.0, 17.0, why)], closed=(10.0, 20.0))
    assert (found.failed, found.failed_meanwhile) == ([f"buyer: {why}"], [])


def test_a_thousandth_of_the_people_may_fail_and_not_one_more() -> None:
    assert verdict.failures(1_000, ["x"]).holds
    assert not verdict.failures(999, ["x"]).holds
    assert verdict.failures(0, []).holds


def test_a_figure_that_was_never_reached_does_not_hold_and_one_that_nobody_could_see_is_not_known() -> None:
    assert verdict.at_most("recovery", 4.99, 5, " s").holds
    assert verdict.at_most("recovery", 5.01, 5, " s").holds is False
    assert verdict.at_most("recovery", None, 5, " s").holds is False
    unseen = verdict.at_most("recovery", None, 5, " s", missing="no store")
    assert (unseen.holds, unseen.why) == (None, "no store")
    assert verdict.holds([unseen])


def check_of(name: str, offences: int, checked: int = 10) -> dict[str, Any]:
    named = [f"{name} is wrong"] * offences
    return {
        "invariant": name, "claim": f"claim of {name}", "checked": checked, "offences": offences, "named": named
    }  # fmt: skip


def audit_of(**offences: int) -> dict[str, Any]:
    standing = [{"invariant": "I12", "why": "wallet routes"}, {"invariant": "I15", "why": "descriptors"}]
    return {"checks": [check_of(name, count) for name, count in offences.items()], "unchecked": standing}


def audited(audit: dict[str, Any], untrue: dict[str, str] | None = None, *, is_own: bool = True) -> list[Judged]:
    return verdict.audited(audit, untrue or {}, "", is_own=is_own)


def test_every_invariant_of_the_auditor_is_a_bound_of_its_own() -> None:
    found = audited(audit_of(I10=0, I1=2))
    assert [(row.what, row.found, row.holds) for row in found] == [("I1 double sales", "2", False), ("I10", "0", True)]
    assert found[0].why == "I1 is wrong; I1 is wrong"
    assert not verdict.holds(found)


def test_a_claim_that_the_fault_makes_untrue_is_excused_and_no_other_claim_of_that_invariant() -> None:
    audit = audit_of(I10=3)
    assert verdict.holds(audited(audit, {"claim of I10": "the disk is gone"}))
    audit["checks"].append({**check_of("I10", 1), "claim": "another"})
    assert not verdict.holds(audited(audit, {"claim of I10": "the disk is gone"}))


def test_an_audit_that_could_not_be_made_is_not_known_and_says_why() -> None:
    (row,) = verdict.audited(None, {}, "no store", is_own=True)
    assert (row.holds, row.why) == (None, "no store")


@pytest.mark.parametrize("is_own", [True, False])
def test_what_the_audit_left_out_is_told_and_does_not_hold_where_all_could_be_read(is_own: bool) -> None:
    audit = audit_of(I1=0)
    audit["unchecked"].append({"invariant": "I8 I10 I11", "why": "no streams"})
    row, _ = audited(audit, is_own=is_own)
    assert (row.what, row.why) == ("left out by the audit", "I8 I10 I11: no streams")
    assert row.holds is (False if is_own else None)


@pytest.mark.parametrize("is_own", [True, False])
def test_an_invariant_of_the_bounds_of_which_there_was_nothing_does_not_hold_here_and_is_not_known_elsewhere(
    is_own: bool,
) -> None:
    audit = {"checks": [check_of("I4", 0, checked=0), check_of("I7", 0, checked=0)], "unchecked": []}
    assert [row.holds for row in audited(audit, is_own=is_own)] == [False if is_own else None, True]


def test_a_line_that_lets_nobody_in_after_the_fault_does_not_hold_unless_there_is_a_reason() -> None:
    assert verdict.line_moves(1, "") == verdict.line_moves(1, "all are inside"), "nothing to excuse"
    assert verdict.line_moves(1, "").holds
    assert verdict.line_moves(0, "").holds is False
    assert verdict.line_moves(0, "all are inside").holds is None


def a_run(result: str = HELD, **changes: Any) -> Run:
    judged = [
        Judged("recovery", "1.5 s", "5 s", True),
        Judged("sagas settled", "0 s", "60 s", True),
        Judged("I1 double sales", "0", "0", True),
        Judged("I9", "0", "0", True),
    ]
    fields: dict[str, Any] = {
        "experiment": "F04-redis-killed",
        "fault": "F4",
        "title": "Redis <is> killed",
        "expected": "holds survive",
        "backends": "embedded",
        "seed": 0,
        "values": {"seed": 0},
        "result": result,
        "judged": [asdict(row) for row in judged],
        "errors": {"hold: connection lost": 7},
        "people": {"came": 900, "calls": 2_000, "failed": 0, "failedMeanwhile": 0, "mayFail": "", "kinds": []},
        "series": [{"at_s": 0, "calls": 20, "errors": 7, "p50_s": 0.004, "p95_s": None}],
        "marks": [(0.5, "kill & wait")],
    }
    return Run(**{**fields, **changes})


def worse() -> Run:
    judged = [
        Judged("recovery", "7.25 s", "5 s", False),
        Judged("sagas settled", "3 s", "60 s", True),
        Judged("I1 double sales", "2", "0", False, "seat 1"),
        Judged("I9", "1", "0", False),
    ]
    return a_run(BROKEN, judged=[asdict(row) for row in judged], seed=1)


def test_runs_of_one_experiment_are_one_row_with_the_worst_of_each_figure() -> None:
    (row,) = rows([a_run(), worse()])
    assert row.kind == BROKEN
    assert row.result == "**broken** in 1: I1 double sales; I9; recovery"
    assert (row.worst("recovery"), row.worst("sagas settled")) == ("7.2", "3.0")
    assert row.invariants == "I1: 2, others: 1"
    assert row.errors == "14 × hold: connection lost"
    assert row.failed == "0 of 1,800"


def test_the_table_has_a_line_for_each_experiment_and_names_what_was_skipped_and_why() -> None:
    skipped = a_run(SKIPPED, experiment="F12-disk-full", fault="F12", why="root: only root may mount", judged=[])
    lines = [line for line in results([a_run(), skipped]).splitlines() if line.startswith("| F")]
    assert len(lines) == 2
    assert "| held | 7 × hold: connection lost | 0 of 900 | 1.5 | 0.0 | 0 |" in lines[0]
    assert "| skipped: root: only root may mount |" in lines[1]
    assert len({line.count("|") for line in results([a_run(), skipped]).splitlines() if line.startswith("|")}) == 1


def test_a_run_with_more_copies_is_kept_beside_that_with_one_and_is_a_line_of_its_own(tmp_path: Path) -> None:
    for run in (a_run(copies=2), a_run()):
        keep(run, tmp_path)
    assert [run.copies for run in kept(tmp_path)] == [1, 2]
    lines = [line for line in results(kept(tmp_path)).splitlines() if line.startswith("| F")]
    assert ["| embedded | 1 | 1 | held |" in lines[0], "| embedded | 2 | 1 | held |" in lines[1]] == [True, True]


def test_an_experiment_that_was_never_run_is_named() -> None:
    assert "\nNot run: F02-crash-anywhere.\n" in results([a_run()], ["F02-crash-anywhere", "F04-redis-killed"])
    assert "Not run" not in results([a_run()], ["F04-redis-killed"])


class _Reader(HTMLParser):
    """Knows which tags are open, and what the page fetches."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [
            value or "" for name, value in attrs if name in ("src", "href") and not (value or "").startswith("#")
        ]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_fetches_nothing_and_draws_every_run_that_was_made() -> None:
    reader = _Reader()
    text = page([a_run(), worse(), a_run(SKIPPED, why="no root")])
    reader.feed(text)
    assert (reader.open, reader.fetched) == ([], [])
    assert reader.tags.count("svg") == 2
    assert reader.tags.count("rect") == 2, "seven errors in one second, in each run"
    assert "Redis &lt;is&gt; killed" in text
    assert "kill &amp; wait" in text
    assert len(re.findall(r'id="F04-redis-killed-embedded-\d"', text)) == 2


def test_results_are_kept_in_the_order_of_the_matrix_and_the_same_run_is_kept_once(tmp_path: Path) -> None:
    for run in (a_run(experiment="F10-replay", fault="F10"), worse(), a_run(), a_run(BROKEN)):
        keep(run, tmp_path)
    found = kept(tmp_path)
    assert [(run.fault, run.seed, run.result) for run in found] == [
        ("F4", 0, BROKEN),
        ("F4", 1, BROKEN),
        ("F10", 0, HELD),
    ]


def test_the_page_leads_to_what_broke() -> None:
    text = page([a_run(), worse()])
    link = '<a href="#F04-redis-killed-embedded-1">'
    assert f'<span class="broken">1 broken</span>: {link}F04-redis-killed-embedded-1</a>' in text
    assert f"{link}Redis &lt;is&gt; killed</a>" in text, "the row of its experiment"
    assert "1 runs of 1 experiments, none broken." in page([a_run()])


def test_a_run_elsewhere_is_kept_beside_that_on_a_system_of_its_own_and_says_where(tmp_path: Path) -> None:
    for run in (a_run(), worse(), a_run(BROKEN, target="tickets.example:8443")):
        keep(run, tmp_path)
    found = kept(tmp_path)
    assert [run.target for run in found] == ["", "", "tickets.example:8443"]
    assert [(row.cells[1], row.cells[4]) for row in rows(found)] == [
        ("Redis <is> killed", "2"),
        ("Redis <is> killed (at tickets.example:8443)", "1"),
    ]
    assert "at tickets.example:8443;" in page(found)


def test_what_is_no_run_in_the_folder_of_runs_and_a_folder_that_takes_none_are_named(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"fault": "F1", "colour": "red"}')
    with pytest.raises(ConfigError, match=r"other\.json is not a run of this version"):
        kept(tmp_path)
    (tmp_path / "other.json").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"other\.json is not a run of this version"):
        kept(tmp_path)
    with pytest.raises(ConfigError, match=r"the run cannot be kept in .*: Not a directory"):
        keep(a_run(), tmp_path / "other.json" / "folder")


def test_what_stopped_a_task_of_the_crowd_is_told_by_its_own_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stopped(*_: Any) -> Any:
        raise ExceptionGroup("unhandled errors in a TaskGroup", [KeyError("uuid")])

    monkeypatch.delenv("TARGET", raising=False)
    monkeypatch.setattr(running, "_system", stopped)
    (tickets,) = chosen("F18")
    assert running.run(tickets, 0, tmp_path).judged[0]["why"] == "KeyError: 'uuid'"
