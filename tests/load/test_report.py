"""A report is one file with everything in it, and each run is a line of the table."""

import math
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

from infra.grafana.series import catalogue
from loadtest import results
from loadtest.figures import figures, judge
from loadtest.page import SYSTEM, Heading, charts, page
from loadtest.plots import Chart
from loadtest.profiles import PROFILES
from loadtest.watching import LARGEST, SUMMED
from tests.load.runs import SERIES, a_run

HEADING = Heading("Load: load", {"machine": "2 cores <of somebody>"})


class Fetched(HTMLParser):
    """Everything in a page that a browser would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "img", "iframe", "object", "embed", "source", "use"):
            self.found.append(tag)
        self.found += [f"{tag} {name}" for name, _ in attrs if name in ("src", "href", "srcset", "xlink:href")]


def a_page(**changes: object) -> str:
    run = a_run(PROFILES["onsale"], opened_s=25.0, **changes)
    run.measured.outcomes["hold: 409 SEAT_TAKEN"] = 5
    run.measured.failures["pay: 500 <b>"] = 2
    found = figures(run)
    return page(HEADING, run, found, judge(run, found))


def test_a_report_fetches_nothing_and_runs_nothing() -> None:
    parser = Fetched()
    parser.feed(a_page())
    assert parser.found == []
    assert "url(" not in a_page()
    assert "@import" not in a_page()


def test_a_report_has_every_series_over_time() -> None:
    drawn = {chart.title: set(chart.lines) for chart in charts(a_run())}
    assert drawn["Iterations"] == {"offered", "started", "completed", "dropped"}
    assert drawn["Latency of requests"] == {"p50", "p95", "p99", "p95 from the intended start"}
    assert drawn["CPU"] == drawn["Memory"] == {"gateway", "locust worker 1"}
    assert {"Line", "Payments", "Time to settle a payment", "Outbox, oldest event"} <= set(drawn)
    text = a_page()
    for title, names in drawn.items():
        assert f"<figcaption>{title} " in text
        assert all(f"</i>{name}</span>" in text for name in names), title
    assert text.count("<svg") == len(drawn)
    assert "NaN" not in text
    assert "nan" not in re.sub(r"<style>.*</style>", "", text)


def test_a_series_in_which_nothing_happened_is_named_all_the_same() -> None:
    chart = Chart("Time to settle a payment", "s", {"p95": [(2.0, math.nan)]}, 60.0, {})
    assert chart.svg() == (
        "<figure><figcaption>Time to settle a payment <small>s</small></figcaption><p>no value was seen</p></figure>"
    )


def test_every_series_of_the_plots_is_read_and_is_one_that_services_export() -> None:
    named = {name for _, _, names in SYSTEM for name in names}
    assert named - {"settle_p95_s"} <= set(SUMMED) | set(LARGEST)
    assert {*SUMMED.values(), *LARGEST.values()} <= set(catalogue())
    assert named <= set(SERIES)


def test_kinds_are_told_apart_and_what_others_wrote_is_escaped() -> None:
    text = a_page()
    assert "<td>pay: 500 &lt;b&gt;</td><td>failure</td><td>2</td>" in text
    assert "<td>hold: 409 SEAT_TAKEN</td><td>outcome</td><td>5</td>" in text
    assert "2 cores &lt;of somebody&gt;" in text


def test_a_system_elsewhere_is_reported_without_what_nobody_saw() -> None:
    text = a_page(readings=(), audit_offences=None, notes=["it runs elsewhere"])
    assert "it runs elsewhere" in text
    assert "Outbox, oldest event" not in text
    assert "not checked: no such figure in this run" in text


def test_every_run_is_a_line_with_a_cell_for_every_column(tmp_path: Path) -> None:
    table = tmp_path / "load" / "results.md"
    identity = {
        "date": "2026-01-02 03:04",
        "commit": "abc+",
        "profile": "load",
        "engine": "locust",
        "machine": "2 cores",
    }
    run = a_run()
    run.measured.outcomes = Counter({"hold: 409 SEAT_TAKEN": 50})
    results.append(results.line(identity, figures(run), "FAILED: a | b"), table)
    results.append(results.line(identity, {}, "passed"), table)
    first, second = table.read_text().splitlines()[-2:]
    for row in (first, second):
        assert len(re.findall(r"(?<!\\)\|", row)) == len(results.COLUMNS) + 1
    assert "| abc+ | load | locust | 2 cores | 3,401 / 3,401 / 3,390 |" in first
    assert "| 0 / 0 / 50 |" in first
    assert second.endswith("| passed |")
