"""One run of one experiment: a system, a crowd on it, the fault, and the judgement.

    system up ── crowd ── steady? ── method (the fault) ── watch ── steady? ── rollbacks ── crowd ends ── audit ── down
                └ as it was before                          └ until all is as before

Chaos Toolkit makes the experiment; `Notes` keeps the moments at which its actions began and ended, on the clock of the
crowd, so that what people saw can be told as before, during and after.
"""

import logging
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from chaoslib.exceptions import ChaosException, InterruptExecution
from chaoslib.experiment import run_experiment
from chaoslib.run import RunEventHandler

from infra.local.settings import LocalSettings
from libs.common.errors import ConfigError
from loadtest.audit.doors.ports import CannotRead
from loadtest.buying.crowd import Crowd
from loadtest.chaos import figures, verdict
from loadtest.chaos.files import Experiment, Values
from loadtest.chaos.load import Load
from loadtest.chaos.probes import NotSteady, audit, gateways
from loadtest.chaos.resources import Used, grown, used
from loadtest.chaos.settling import settled_s
from loadtest.chaos.target import Target, backends, fresh, named, pay_deadline_s, skipped
from loadtest.chaos.verdict import Judged

WARM_UP_S = 5.0
"""The crowd before anything is done: what it sees is how things were before."""

WATCH_MORE_S = 3.0
"""Longer than the bound of the recovery, so that what is late is told from what never comes."""

REST_S, REST_PAUSE_S = 80.0, 0.5
"""A service ends an idle connection of another one after 75 s."""

ALWAYS_TAKE_BACK = {"runtime": {"rollbacks": {"strategy": "always"}}}
"""By default the library leaves a fault as it is when the steady state was not met."""

HELD, BROKEN, SKIPPED = "held", "broken", "skipped"
NOBODY = {"came": 0, "calls": 0, "failed": 0, "failedMeanwhile": 0, "mayFail": "", "kinds": []}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a run, as the report takes it; all of it goes into JSON. Seconds count from the crowd's arrival.
    `target` is the host that TARGET named; empty: a system of its own."""

    experiment: str
    fault: str
    title: str
    expected: str
    backends: str
    seed: int
    values: Values
    result: str
    why: str = ""
    copies: int = 1
    target: str = ""
    judged: list[dict[str, Any]] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    people: dict[str, Any] = field(default_factory=dict)
    series: list[dict[str, Any]] = field(default_factory=list)
    marks: list[tuple[float, str]] = field(default_factory=list)
    resources: dict[str, Any] = field(default_factory=dict)
    unchecked: list[str] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def name(self) -> str:
        copies = f"-{self.copies}-copies" if self.copies > 1 else ""
        where = f"-at-{self.target.replace(':', '_')}" if self.target else ""
        return f"{self.experiment}-{self.backends}{copies}{where}-{self.seed}"


def run(experiment: Experiment, seed: int, folder: Path) -> Run:
    """Make one run; one that something stops is broken, and says by what. What the system of a broken run logged is in
    `folder` afterwards, by the run's name. Raises ConfigError for a wrong setting."""
    on = backends()
    drawn = experiment.draw(seed)
    terms, began_s = experiment.terms, time.monotonic()
    about = {
        "experiment": experiment.name,
        "fault": terms.fault,
        "title": experiment.content["title"],
        "expected": terms.expected,
        "backends": on,
        "copies": _copies(experiment),
        "target": urlsplit(gateways()[0]).netloc.rpartition("@")[2] if os.environ.get("TARGET") else "",
        "seed": seed,
        "values": drawn,
    }
    why = skipped(experiment, on)
    if why:
        return Run(**about, result=SKIPPED, why=why)
    made: dict[str, Any] = {"rows": [], "people": NOBODY}
    logs = logs_of(Run(**about, result=""), folder)
    shutil.rmtree(logs, ignore_errors=True)
    try:
        with _system(experiment, about["copies"], logs) as target:
            made = Attempt(experiment, drawn, target).made()
    except Exception as stop:  # whatever it is, the next runs of a series are made
        log.warning("%s cannot be made", experiment.name, exc_info=not isinstance(stop, ConfigError))
        while isinstance(stop, ExceptionGroup):  # of a task of the crowd: the group says only that there is one
            stop = stop.exceptions[0]
        made["rows"].append(Judged("run to its end", "no", "yes", False, f"{type(stop).__name__}: {stop}"))
    result = HELD if verdict.holds(made["rows"]) else BROKEN
    if result == HELD:
        shutil.rmtree(logs, ignore_errors=True)
    judged = [asdict(row) for row in made.pop("rows")]
    return Run(**about, result=result, judged=judged, **made, took_s=round(time.monotonic() - began_s, 1))


def logs_of(run: Run, folder: Path) -> Path:
    """Where the logs of a run's own system are."""
    return folder / f"{run.name}.logs"


def _copies(experiment: Experiment) -> int:
    if os.environ.get("TARGET"):
        return len(gateways())
    own = experiment.terms.environment.get("COPIES", "")
    return LocalSettings.from_environment({"COPIES": os.environ.get("COPIES") or own}).copies


def _system(experiment: Experiment, copies: int, logs: Path) -> AbstractContextManager[Target]:
    if os.environ.get("TARGET"):
        return named()
    return fresh(experiment, {**experiment.terms.environment, "COPIES": str(copies)}, logs)


class Notes(RunEventHandler):  # type: ignore[misc] # the library has no types
    """When each action of the method began and ended, by its name (monotonic seconds). After the method it waits until
    the crowd was watched for long enough: the auditor of the steady state reads everything, which people notice, too.
    """

    def __init__(self, watch_s: float) -> None:
        self.watch_s = watch_s
        self.watched_s = 0.0
        self.is_interrupted = False
        self.method = False
        self.began: dict[str, float] = {}
        self.ended: dict[str, float] = {}

    def started(self, *_: Any) -> None:
        """From here on SIGTERM raises wherever the library is; it may take that for a failure of a probe, and go on."""
        interrupts = signal.getsignal(signal.SIGTERM)

        def note(*given: Any) -> None:
            self.is_interrupted = True
            if callable(interrupts):
                interrupts(*given)

        signal.signal(signal.SIGTERM, note)

    def start_method(self, *_: Any) -> None:
        self.method = True

    def method_completed(self, *_: Any) -> None:
        self.method = False

    def start_hypothesis_after(self, *_: Any) -> None:
        time.sleep(self.watch_s)
        self.watched_s = time.monotonic()

    def start_activity(self, activity: Any) -> None:
        if self.method and activity["type"] == "action":
            self.began.setdefault(activity["name"], time.monotonic())

    def activity_completed(self, activity: Any, *_: Any) -> None:
        if activity["name"] in self.began and self.method:
            self.ended[activity["name"]] = time.monotonic()

    def fault(self, ends: tuple[str, ...]) -> figures.Fault:
        """Nothing at all, now, where no action was reached."""
        now_s = time.monotonic()
        last_s = max(self.ended.values(), default=now_s)
        moments = sorted((self.began[name], self.ended[name]) for name in ends if name in self.ended)
        return figures.Fault(min(self.began.values(), default=now_s), last_s, moments or [(last_s, last_s)])


@dataclass
class Attempt:
    """The parts of a run that need its system."""

    experiment: Experiment
    drawn: Values
    target: Target

    def made(self) -> dict[str, Any]:
        """The fields of a `Run` that its system gives, and `rows` of what is judged."""
        load = Load(self.target.urls, self.target.token, self.target.scene, self.drawn["seed"])
        self._began_s, self._began_ms = time.monotonic(), time.time_ns() // 1_000_000
        terms = self.experiment.terms
        load.start()
        try:
            time.sleep(WARM_UP_S)
            before = self._used()
            notes = Notes(max(terms.watch_s, terms.recovery_s + WATCH_MORE_S))
            journal = self._journal(notes)
            fault = notes.fault(terms.recovers_after)
        finally:
            crowd = load.end()
        audited, why_not = self._audited(crowd)
        after = self._rested(before)
        rows = self._judge(journal, crowd, fault, notes.watched_s or fault.ended_s)
        rows += verdict.audited(audited, terms.untrue, why_not, is_own=self.target.is_own)
        rows += _leaks(before, after)
        return {
            "rows": rows,
            "errors": figures.errors_by_kind(crowd.client.seen),
            "people": self._people_json(crowd, fault),
            "series": [asdict(each) for each in figures.seconds(crowd.client.seen, self._began_s)],
            "marks": self._marks(notes),
            "resources": {
                name: [asdict(before[name]), asdict(used_)] for name, used_ in after.items() if name in before
            },
            "unchecked": [f"{each['invariant']}: {each['why']}" for each in (audited or {}).get("unchecked", [])],
        }

    def _journal(self, notes: Notes) -> dict[str, Any]:
        content = self.experiment.prepared(self.drawn)
        try:
            journal: dict[str, Any] = run_experiment(content, settings=ALWAYS_TAKE_BACK, event_handlers=[notes])
        except InterruptExecution:
            raise KeyboardInterrupt from None
        except ChaosException as wrong:
            raise ConfigError(f"{self.experiment.path.name}: {wrong}") from None
        # The library takes Ctrl-C and SIGTERM for its own: they end the series.
        if notes.is_interrupted or journal["status"] == "interrupted":
            raise KeyboardInterrupt
        return journal

    def _judge(self, journal: Mapping[str, Any], crowd: Crowd, fault: figures.Fault, watched_s: float) -> list[Judged]:
        terms, seen = self.experiment.terms, crowd.client.seen
        series = figures.seconds(seen, self._began_s)
        recovered = figures.slowest_recovery_s(series, fault, self._began_s, watched_s)
        people = figures.people(crowd.visits, self._closed(fault))
        return [
            *_steady(journal),
            verdict.at_most("recovery", recovered, terms.recovery_s, " s"),
            self._settled(fault),
            verdict.failures(people.count, people.failed),
            Judged("places lost in line", str(len(crowd.lost_places)), "0", not crowd.lost_places,
                   "; ".join(crowd.lost_places[:3])),
            verdict.line_moves(sum(at_s >= fault.ended_s for at_s in crowd.let_in_s), self._why_nobody()),
        ]  # fmt: skip

    def _why_nobody(self) -> str:
        """Why the line may stand still for the rest of a run; empty where it has to move."""
        if not self.target.is_own:
            return "the line of this environment may be longer than a run"
        if self.experiment.terms.refuses:
            return "who was kept out is inside until the end of their visit"
        return self.experiment.terms.line_stands

    def _closed(self, fault: figures.Fault) -> tuple[float, float] | None:
        terms = self.experiment.terms
        return (fault.began_s, fault.ended_s + terms.recovery_s) if terms.refuses else None

    def _settled(self, fault: figures.Fault) -> Judged:
        if self.target.cannot_audit:
            return verdict.at_most("sagas settled", None, verdict.SETTLED_S, " s", missing=self.target.cannot_audit)
        ended_ms = self._began_ms + round((fault.ended_s - self._began_s) * 1000)
        try:
            return verdict.at_most("sagas settled", settled_s(ended_ms, pay_deadline_s()), verdict.SETTLED_S, " s")
        except CannotRead as why:
            return verdict.at_most("sagas settled", None, verdict.SETTLED_S, " s", missing=str(why))

    def _audited(self, crowd: Crowd) -> tuple[dict[str, Any] | None, str]:
        """The auditor's answer, or None and why there is none: it settles first, and has what people saw."""
        if self.target.cannot_audit:
            return None, self.target.cannot_audit
        with tempfile.TemporaryDirectory(prefix="stagedoor-chaos-") as folder:
            history = Path(folder) / "history.jsonl"
            history.write_bytes(b"\n".join(crowd.client.history.lines))
            try:
                return audit(settle_s=verdict.SETTLED_S, history=str(history), live=self.target.urls[0]), ""
            except NotSteady as why:
                return {"checks": [_unreadable(str(why))], "unchecked": []}, ""

    def _used(self) -> dict[str, Used]:
        return used() if self.target.has_supervisor else {}

    def _rested(self, before: Mapping[str, Used]) -> dict[str, Used]:
        """What is used when nobody calls any more; connections that are kept for the next call get the time to end."""
        give_up_s = time.monotonic() + REST_S
        after = self._used()
        while not _is_rested(grown(before, after)) and time.monotonic() < give_up_s:
            time.sleep(REST_PAUSE_S)
            after = self._used()
        return after

    def _people_json(self, crowd: Crowd, fault: figures.Fault) -> dict[str, Any]:
        found = figures.people(crowd.visits, self._closed(fault))
        return {
            "came": found.count,
            "calls": len(crowd.client.seen),
            "failed": len(found.failed),
            "failedMeanwhile": len(found.failed_meanwhile),
            "mayFail": self.experiment.terms.refuses,
            "kinds": sorted({each.rpartition(": ")[2] for each in (*found.failed, *found.failed_meanwhile)})[:20],
        }

    def _marks(self, notes: Notes) -> list[tuple[float, str]]:
        return [(round(at_s - self._began_s, 2), name) for name, at_s in notes.ended.items()]


def _steady(journal: Mapping[str, Any]) -> list[Judged]:
    """The hypothesis before and after, and whether everything that was to be done was done."""
    rows = []
    for when in ("before", "after"):
        state = journal["steady_states"].get(when) or {}
        is_met = bool(state.get("steady_state_met"))
        rows.append(Judged(f"steady {when}", "yes" if is_met else "no", "yes", is_met, _why_unsteady(state)))
    done = [*journal.get("run", []), *journal.get("rollbacks", [])]
    failed = [f"{each['activity']['name']}: {_last_words(each)}" for each in done if each["status"] != "succeeded"]
    rows.append(Judged("actions that failed", str(len(failed)), "0", not failed, "; ".join(failed)))
    return rows


def _why_unsteady(state: Mapping[str, Any]) -> str:
    wrong = [each for each in state.get("probes", []) if not each.get("tolerance_met", True)]
    return "; ".join(f"{each['activity']['name']}: {_last_words(each)}" for each in wrong)


def _last_words(activity: Mapping[str, Any]) -> str:
    told = activity.get("exception")
    return str(told[-1]).strip().rpartition("ActivityFailed: ")[2] if told else f"answered {activity.get('output')}"


def _leaks(before: Mapping[str, Used], after: Mapping[str, Used]) -> list[Judged]:
    if not after:
        why = "STATE_DIR names no system that runs on this machine"
        return [verdict.at_most("files and memory that stay", None, 0, missing=why)]
    more = grown(before, after)
    return [
        verdict.at_most("open files more than before", more.files, verdict.FILES_MORE_MAX),
        verdict.at_most("tasks more than before", more.tasks, verdict.TASKS_MORE_MAX),
        verdict.at_most("memory more than before", more.memory_mb, verdict.MEMORY_MORE_MAX_MB, " MB"),
    ]


def _is_rested(more: Used) -> bool:
    return more.files <= verdict.FILES_MORE_MAX and more.tasks <= verdict.TASKS_MORE_MAX


def _unreadable(why: str) -> dict[str, Any]:
    return {"invariant": "I8", "claim": "the auditor can read the system", "checked": 1, "offences": 1, "named": [why]}
