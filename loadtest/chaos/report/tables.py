"""A run as a table for a terminal; all kept runs as a table in Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from loadtest.chaos.running import BROKEN, HELD, SKIPPED, Run
from loadtest.chaos.verdict import INVARIANTS

ERRORS_NAMED = 4
STYLES = {HELD: "green", BROKEN: "bold red", SKIPPED: "yellow"}

HEAD = """# Chaos: what ran, and what people noticed

Written by `make chaos-results` from the last run of each experiment and seed on one machine; not by hand. Faults are
those of the matrix in `loadtest/chaos/README.md`, which also says what each column is. *Held* means that every bound
below held in every run. What was skipped is named with the reason.

"""

BOUNDS = """
Bounds: no double sale (I1), no double debit (I4), nobody paid without a ticket (I5), no acknowledged write lost (I6),
no place in line lost or overtaken (I11), nor any other offence that the auditor knows; recovery within 5 s of the end
of a fault, 10 s or 15 s where its file says so (the broker, the store, a Redis without its data); every saga settled
within 60 s; at most 0.1 % of the people fail after two retries, where the fault does not keep everybody out for longer
than that.
"""

HEADINGS = (
    "fault",
    "experiment",
    "backends",
    "copies",
    "runs",
    "result",
    "errors people saw",
    "people who failed",
    "recovery s",
    "sagas settled s",
    "offences",
)


@dataclass(frozen=True, slots=True)
class Row:
    """All runs of one experiment on one kind of backends, with as many copies of each service, in one place."""

    runs: Sequence[Run]

    @property
    def made(self) -> list[Run]:
        return [run for run in self.runs if run.result != SKIPPED]

    @property
    def cells(self) -> list[str]:
        """What stands under `HEADINGS`."""
        first = self.runs[0]
        title = f"{first.title} (at {first.target})" if first.target else first.title
        head = [first.fault, title, first.backends, str(first.copies), str(len(self.made)), self.result]
        if not self.made:
            return [*head, *["–"] * (len(HEADINGS) - len(head))]
        return [*head, self.errors, self.failed, self.worst("recovery"), self.worst("sagas settled"), self.invariants]

    @property
    def kind(self) -> str:
        """held, broken or skipped."""
        if not self.made:
            return SKIPPED
        return BROKEN if any(run.result == BROKEN for run in self.made) else HELD

    @property
    def result(self) -> str:
        if not self.made:
            return f"skipped: {self.runs[0].why}"
        broken = [run for run in self.made if run.result == BROKEN]
        return f"**broken** in {len(broken)}: {'; '.join(sorted(_reasons(broken)))}" if broken else HELD

    @property
    def errors(self) -> str:
        total: dict[str, int] = {}
        for run in self.made:
            for kind, count in run.errors.items():
                total[kind] = total.get(kind, 0) + count
        named = sorted(total.items(), key=lambda item: -item[1])
        told = [f"{count} × {kind}" for kind, count in named[:ERRORS_NAMED]]
        return (
            ", ".join([*told, *([f"{len(named) - ERRORS_NAMED} other kinds"] if len(named) > ERRORS_NAMED else [])])
            or "none"
        )

    @property
    def failed(self) -> str:
        came = sum(run.people["came"] for run in self.made)
        failed = sum(run.people["failed"] for run in self.made)
        meanwhile = sum(run.people["failedMeanwhile"] for run in self.made)
        kept_out = f", {meanwhile} while it lasted" if meanwhile else ""
        return f"{failed} of {came:,}{kept_out}"

    def worst(self, what: str) -> str:
        """The largest figure of a bound over all runs; a dash where it was never known."""
        found = [judged["found"] for run in self.made for judged in run.judged if judged["what"] == what]
        if "not reached" in found:
            return "not reached"
        known = [figure for text in found if (figure := _figure(text)) is not None]
        return f"{max(known):.1f}" if known else "–"

    @property
    def invariants(self) -> str:
        """Offences against each of the five that are named, and against any other."""
        counts = dict.fromkeys([*INVARIANTS, "others"], 0)
        looked = False
        for run in self.made:
            for judged in run.judged:
                name = judged["what"].split(" ")[0]
                if name[:1] == "I" and name[1:].isdigit():
                    looked = True
                    counts[name if name in INVARIANTS else "others"] += int(judged["found"])
        if not looked:
            return "not audited"
        offences = [f"{name}: {count}" for name, count in counts.items() if count]
        return ", ".join(offences) or "0"


def rows(runs: Sequence[Run]) -> list[Row]:
    """In the order of the runs."""
    groups: dict[tuple[str, str, int, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.experiment, run.backends, run.copies, run.target), []).append(run)
    return [Row(group) for group in groups.values()]


def results(runs: Sequence[Run], known: Sequence[str] = ()) -> str:
    """The page of results. `known` are the names of all experiments: those without a run are named."""
    missing = [name for name in known if name not in {run.experiment for run in runs}]
    not_run = f"\nNot run: {', '.join(missing)}.\n" if missing else ""
    lines = [_line(HEADINGS), "|---" * len(HEADINGS) + "|", *(_line(row.cells) for row in rows(runs))]
    return HEAD + "\n".join(lines) + "\n" + not_run + BOUNDS


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |"


def told(run: Run) -> Table | Text:
    """One run: every bound, what was found, and the errors people saw; of one that was skipped, why."""
    values = ", ".join(f"{name}={value}" for name, value in run.values.items())
    title = Text(f"{run.fault} {run.title} ({run.backends}, copies={run.copies}) {values}")
    if run.result == SKIPPED:
        return Text(f"{run.fault} {run.title}: skipped: {run.why}", style=STYLES[SKIPPED])
    table = Table("", "found", "bound", "", title=title, title_justify="left", caption=_caption(run))
    for judged in run.judged:
        mark = {True: "holds", False: "BROKEN", None: "not known"}[judged["holds"]]
        style = {True: "green", False: "bold red", None: "yellow"}[judged["holds"]]
        what = Text(judged["what"])
        if judged["why"]:
            what.append(f"\n  {judged['why']}", style="red" if judged["holds"] is False else "yellow")
        table.add_row(what, judged["found"], judged["bound"], Text(mark, style=style))
    return table


def _caption(run: Run) -> Text:
    errors = ", ".join(f"{count} × {kind}" for kind, count in run.errors.items()) or "none"
    people = run.people
    text = Text(f"{run.result}", style=STYLES[run.result])
    text.append(f"; {people['came']:,} people, {people['calls']:,} calls, errors they saw: {errors}; {run.took_s:g} s")
    if people["failedMeanwhile"]:
        text.append(f"; {people['failedMeanwhile']} gave up while it lasted ({people['mayFail']})")
    return text


def _reasons(runs: Sequence[Run]) -> set[str]:
    return {judged["what"] for run in runs for judged in run.judged if judged["holds"] is False}


def _figure(found: str) -> float | None:
    try:
        return float(found.split(" ", maxsplit=1)[0])
    except ValueError:
        return None
