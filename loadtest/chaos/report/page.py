"""All kept runs as one self-contained HTML page: the table first, then each run with its plot and its bounds."""

from collections.abc import Sequence
from html import escape

from loadtest.chaos.report.plot import plot
from loadtest.chaos.report.tables import HEADINGS, Row, rows
from loadtest.chaos.running import BROKEN, SKIPPED, Run

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #66707f; --line: #d8dde4; --paper: #fff; --good: #1a7f45;
  --bad: #c22f2f; --mid: #2f6fc2; --warn: #9a6a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #98a2b0; --line: #39414d; --paper: #14181f;
  --good: #4fc07c; --bad: #ef6a6a; --mid: #74a9f0; --warn: #d9a63a; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
  max-width: 1100px; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin: 2.5rem 0 .25rem; }
p { margin: .25rem 0; color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13px; margin: .75rem 0; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; }
.held { color: var(--good); } .broken { color: var(--bad); font-weight: 600; } .skipped { color: var(--warn); }
svg { width: 100%; height: auto; margin: .5rem 0; } svg text { font-size: 10px; fill: var(--soft); }
svg .grid { stroke: var(--line); } svg .axis { stroke: var(--soft); } svg .mark { stroke: var(--warn); }
svg text.mark { stroke: none; fill: var(--warn); } svg polyline { fill: none; stroke-width: 1.6; }
svg .p50 { stroke: var(--mid); } svg .p95 { stroke: var(--bad); stroke-dasharray: 4 2; }
svg .error { fill: var(--bad); }
"""

LEGEND = (
    "Above: latency of writes by the second in which they were sent, median (solid) and p95 (dashed). "
    "Below: errors. Upright lines: when something had been done to the system."
)


def page(runs: Sequence[Run]) -> str:
    """The whole page; nothing in it is fetched from elsewhere."""
    made = [run for run in runs if run.result != SKIPPED]
    table = "".join(_row(row) for row in rows(runs))
    heads = "".join(f"<th>{name}</th>" for name in HEADINGS)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Chaos</title><style>{STYLE}</style></head><body>
<h1>What broke, and what people noticed</h1>
<p>{len(made)} runs of {len({run.experiment for run in made})} experiments, {_broken(made)}. {LEGEND}</p>
<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{table}</tbody></table></div>
{"".join(_section(run) for run in made)}
</body></html>
"""


def _row(row: Row) -> str:
    cells = [escape(cell) for cell in row.cells]
    broken = [run for run in row.made if run.result == BROKEN]
    cells[1] = f'<a href="#{escape((broken or row.made)[0].name)}">{cells[1]}</a>' if row.made else cells[1]
    result = HEADINGS.index("result")
    cells[result] = f'<span class="{row.kind}">{cells[result].replace("**", "")}</span>'
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _broken(made: Sequence[Run]) -> str:
    """Where to look first."""
    links = [f'<a href="#{escape(run.name)}">{escape(run.name)}</a>' for run in made if run.result == BROKEN]
    return f'<span class="broken">{len(links)} broken</span>: {", ".join(links)}' if links else "none broken"


def _section(run: Run) -> str:
    values = ", ".join(f"{name} = {value}" for name, value in run.values.items())
    bounds = "".join(
        f"<tr><td>{escape(each['what'])}</td><td>{escape(each['found'])}</td><td>{escape(each['bound'])}</td>"
        f"<td>{_mark(each['holds'])}</td><td>{escape(each['why'])}</td></tr>"
        for each in run.judged
    )
    people = run.people
    kept_out = (
        f" {people['failedMeanwhile']} gave up while it lasted: {people['mayFail']}." if people["mayFail"] else ""
    )
    errors = ", ".join(f"{count} × {kind}" for kind, count in run.errors.items()) or "none"
    where = f" at {run.target};" if run.target else ""
    head = f"{escape(run.fault)} · {escape(run.title)}"
    return f"""
<h2 id="{escape(run.name)}">{head} · <span class="{run.result}">{run.result}</span></h2>
<p>{escape(run.backends)}; copies = {run.copies};{escape(where)} {escape(values)}. Expected: {escape(run.expected)}.</p>
<p>{people["came"]:,} people, {people["calls"]:,} calls. Errors they saw: {escape(errors)}.{escape(kept_out)}</p>
{plot(run.series, run.marks)}
<div class="scroll"><table><thead><tr><th></th><th>found</th><th>bound</th><th></th><th></th></tr></thead>
<tbody>{bounds}</tbody></table></div>
<p>Not checked: {escape("; ".join(run.unchecked) or "nothing was left out")}.</p>
"""


def _mark(holds: bool | None) -> str:
    name, told = {True: ("held", "holds"), False: ("broken", "broken"), None: ("skipped", "not known")}[holds]
    return f'<span class="{name}">{told}</span>'
