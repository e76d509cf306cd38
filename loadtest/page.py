"""A run as one HTML file that holds all of itself: verdict, figures, plots, tables. No script, nothing to fetch."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from loadtest.engines.ports import Sample
from loadtest.figures import FIGURES, Run, Verdict, offered_per_s
from loadtest.plots import Chart, Line
from loadtest.watching import Reading

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1e293b; margin: 2rem auto; max-width: 1180px; padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: 0 } h2 { font-size: 1.1rem; margin-top: 2rem }
.verdict { padding: .7rem 1rem; border-radius: 6px; font-weight: 600; background: #dcfce7 }
.verdict.missed { background: #fee2e2 }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(440px, 1fr)); gap: 1.5rem }
figure { margin: 0 } figcaption { font-weight: 600 } small, .note { color: #64748b; font-weight: 400 }
svg { width: 100%; height: auto } svg path { fill: none; stroke-width: 1.6 }
svg text { font-size: 11px; fill: #64748b } .left { text-anchor: end } .below { text-anchor: middle }
.grid { stroke: #e2e8f0 } line.mark { stroke: #94a3b8; stroke-dasharray: 3 3 }
.names { margin: 0; font-size: 12px } .names span { margin-right: 1em; white-space: nowrap }
.names i { display: inline-block; width: 10px; height: 10px; margin-right: .35em; border-radius: 2px }
table { border-collapse: collapse; font-size: 14px } td, th { padding: .2rem .8rem; text-align: right }
td:first-child, th:first-child { text-align: left } tr:nth-child(even) { background: #f8fafc }
.no { color: #b91c1c; font-weight: 600 }
"""


@dataclass(frozen=True, slots=True)
class Heading:
    """What was run, when, on what."""

    title: str
    facts: Mapping[str, str]


def page(heading: Heading, run: Run, found: Mapping[str, float], verdict: Verdict) -> str:
    missed = " missed" if verdict.exit_code else ""
    parts = [
        f"<h1>{escape(heading.title)}</h1><p class='note'>{escape(run.profile.about)}</p>",
        f"<p class='verdict{missed}'>{escape(verdict.first_line)}</p>",
        *(f"<p class='note'>{escape(note)}</p>" for note in run.notes),
        "<h2>Thresholds</h2>" + _thresholds(verdict),
        "<h2>Over time</h2><div class='plots'>" + "".join(chart.svg() for chart in charts(run)) + "</div>",
        "<h2>Figures</h2>"
        + _table(("", ""), ((FIGURES[name], _number(found[name])) for name in FIGURES if name in found)),
        "<h2>Time by step, ms</h2>" + _steps(run.measured.steps),
        "<h2>What was not a plain success</h2>" + _kinds(run),
        "<h2>What was run</h2>" + _table(("", ""), heading.facts.items()),
    ]
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{escape(heading.title)}</title>"
        f"<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def charts(run: Run) -> list[Chart]:
    """Every series there is; those of the system only where it could be watched."""
    marks = {} if run.opened_s is None else {"opens": run.opened_s}
    samples, readings = run.samples, run.readings
    span_s = max([run.plan.seconds, *(s.at_s for s in samples), *(r.at_s for r in readings)])
    offered = [(s.at_s, offered_per_s(run.plan, s)) for s in samples]

    def rate(of: Callable[[Sample], int]) -> Line:
        return [(s.at_s, of(s) / s.span_s) for s in samples]

    latency: dict[str, Line] = {
        "p50": [(s.at_s, s.p50) for s in samples],
        "p95": [(s.at_s, s.p95) for s in samples],
        "p99": [(s.at_s, s.p99) for s in samples],
    }
    if run.measured.intended:
        latency["p95 from the intended start"] = [(s.at_s, s.intended_p95) for s in samples]
    iterations: dict[str, Line] = {} if run.loops else {"offered": offered}
    iterations |= {
        "started": rate(lambda s: s.started),
        "completed": rate(lambda s: s.completed),
        "dropped": rate(lambda s: s.dropped),
    }
    errors = {
        "failures": rate(lambda s: s.failures),
        "shed (429, 503)": rate(lambda s: s.refused),
        "outcomes (seat taken, …)": rate(lambda s: s.outcomes),
    }
    found = [
        Chart("Iterations", "a second", iterations, span_s, marks),
        Chart("Latency of requests", "ms", latency, span_s, marks),
        Chart("Requests", "a second", {"requests": rate(lambda s: s.requests)}, span_s, marks),
        Chart("Refusals and failures", "a second", errors, span_s, marks),
        Chart("CPU", "share of a core", _by_process(readings, lambda r: r.cpu), span_s, marks),
        Chart("Memory", "MB resident", _by_process(readings, lambda r: r.rss_mb), span_s, marks),
    ]
    if any(reading.series for reading in readings):
        found += [Chart(title, unit, _series(readings, names), span_s, marks) for title, unit, names in SYSTEM]
    return found


SYSTEM = (
    ("Line", "people", {"waiting": "waiting", "inside": "inside", "offered": "let in, not come yet"}),
    ("Payments", "reservations", {"paying": "callers that wait", "due": "found due by the sweep"}),
    ("Time to settle a payment", "s, p95", {"settle_p95_s": "p95"}),
    ("Outbox, oldest event", "s", {"outbox_age_s": "age"}),
    ("Events under way", "events", {"outbox_pending": "not published", "lag": "not handled"}),
    ("Gateway", "requests", {"in_flight": "in flight"}),
)


def _by_process(readings: Sequence[Reading], of: Callable[[Reading], Mapping[str, float]]) -> dict[str, Line]:
    names = dict.fromkeys(name for reading in readings for name in of(reading))
    return {name: [(r.at_s, of(r).get(name, math.nan)) for r in readings] for name in names}


def _series(readings: Sequence[Reading], names: Mapping[str, str]) -> dict[str, Line]:
    return {told: [(r.at_s, r.series.get(name, math.nan)) for r in readings] for name, told in names.items()}


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _thresholds(verdict: Verdict) -> str:
    words = {True: "holds", False: "<span class='no'>missed</span>", None: "not checked: no such figure in this run"}
    rows = [
        "<tr>"
        f"<td>{escape(FIGURES[each.threshold.figure])}</td><td>{each.threshold.bound}</td>"
        f"<td>{'–' if each.value is None else _number(each.value)}</td><td>{words[each.holds]}</td></tr>"
        for each in verdict.checked
    ]
    return f"<table><tr><th>figure</th><th>wanted</th><th>was</th><th></th></tr>{''.join(rows)}</table>"


def _steps(steps: Mapping[str, Mapping[str, float]]) -> str:
    if not steps:
        return "<p class='note'>This script does not name its steps.</p>"
    columns = list(next(iter(steps.values())))
    return _table(("step", *columns), ((name, *(_number(times[c]) for c in columns)) for name, times in steps.items()))


def _kinds(run: Run) -> str:
    groups: dict[str, Counter[str]] = {
        "failure": run.measured.failures,
        "shed": run.measured.refused,
        "outcome": run.measured.outcomes,
    }
    rows = [(kind, group, f"{count:,}") for group, kinds in groups.items() for kind, count in kinds.most_common()]
    return _table(("step and kind", "", "count"), rows) if rows else "<p class='note'>nothing</p>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{escape(cell)}</th>' for cell in head)}</tr>{body}</table>"
