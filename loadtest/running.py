"""One load from begin to end: a system, warmed; the load, watched; the audit. What comes of it is a `Run`."""

import math
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from infra.local.settings import PORTS_PER_COPY
from loadtest.auditing import audit
from loadtest.engines.ports import SAMPLE_S, Engine, Generator, Measured, Sample
from loadtest.errors import CannotRun
from loadtest.figures import Run, offered_per_s, rate_at
from loadtest.fresh_system import ROOT, FreshSystem, ports_in_a_row
from loadtest.plan import Plan, plan_of, warm_up_plan
from loadtest.profiles import STOP_SAMPLES, Profile
from loadtest.watching import Watch

OVERDUE_S = 60.0
"""A generator that is not over so long after its plan is asked to end, and killed when it does not."""

WARM_UP_MAX_S = 10.0
OPENING_LEAD_S = 4.0
"""A generator takes about so long from its start to its first iteration."""

ELSEWHERE = (
    "The system runs elsewhere (TARGET): it was not started anew, its data is what it is, and its CPU, memory, own "
    "series and stores were not looked at."
)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the load goes. `variables` is the environment in which operators find a system of our own, None where it is
    somebody else's."""

    url: str
    port: int = 0
    variables: Mapping[str, str] | None = None

    @property
    def state_dir(self) -> Path | None:
        return None if self.variables is None else Path(self.variables["STATE_DIR"])


@contextmanager
def place(profile: Profile, target: str | None) -> Iterator[Place]:
    """A fresh system with the profile's data, or the one at `target`. Raises CannotRun when neither is to be had."""
    if target is not None:
        url = target.rstrip("/")
        try:
            urllib.request.urlopen(f"{url}/readyz", timeout=5).close()  # noqa: S310 (the tester's own words)
        except (OSError, ValueError) as why:
            raise CannotRun(f"TARGET: {url}/readyz does not answer ({why})") from None
        yield Place(url)
        return
    port = ports_in_a_row(PORTS_PER_COPY)
    with FreshSystem(profile.data.environment, port=port) as system:
        yield Place(f"http://127.0.0.1:{port}", port, system.variables)


def run(profile: Profile, engine: Engine, where: Place, token: str, say: Say) -> Run:
    """Warm up, load, watch, audit. Raises CannotRun, EngineFailed."""
    plan = plan_of(profile, token)
    warm_s = min(WARM_UP_MAX_S, max(1.0, profile.seconds / 6))
    say(f"warming up for {warm_s:.0f} s")
    warm_plan, warm_began_s = warm_up_plan(profile, warm_s, token), time.monotonic()
    with tempfile.TemporaryDirectory() as folder, load(engine, warm_plan, where, folder) as warm:
        while warm.is_running() and not _is_overdue(warm_began_s, warm_plan):
            time.sleep(0.2)
        warm.finish()
    opens_s = _set_opening(profile, where)
    with tempfile.TemporaryDirectory() as folder, load(engine, plan, where, folder) as generator:
        follower = Follower(profile, plan, where, say)
        measured = follower.follow(generator)
        began_s = generator.began_s() or time.time()
    done = Run(
        profile=profile,
        plan=plan,
        measured=measured,
        samples=follower.samples,
        readings=follower.watch.readings(began_s),
        broke=follower.broke,
        opened_s=None if opens_s is None else opens_s - began_s,
        generator=tuple(follower.generator),
    )
    if where.variables is None:
        done.notes.append(ELSEWHERE)
    else:
        say("auditing")
        done.audit_offences = audit(where.variables, where.url)
    return done


@contextmanager
def load(engine: Engine, plan: Plan, where: Place, folder: str) -> Iterator[Generator]:
    """A load under way, for the time of a `with`: whatever is left of it then is ended."""
    generator = engine.start(plan, where.url, Path(folder))
    try:
        yield generator
    finally:
        generator.kill()


class Follower:
    """Reads what a load tells, watches the system, says how it goes, and stops the load when the system has broken."""

    def __init__(self, profile: Profile, plan: Plan, where: Place, say: Say) -> None:
        self._profile, self._plan, self._say = profile, plan, say
        self.watch = Watch(where.state_dir, where.port)
        self.samples: list[Sample] = []
        self.generator: dict[str, None] = {}
        self.broke = False

    def follow(self, generator: Generator) -> Measured:
        began_s = next_s = time.monotonic()
        while generator.is_running() and not _is_overdue(began_s, self._plan):
            processes = generator.processes()
            self.generator |= dict.fromkeys(processes)
            self.watch.read(processes)
            for sample in generator.samples():
                self._take(sample)
            if self._has_broken() and not self.broke:
                self.broke = True
                self._say(f"it broke at {rate_at(self._plan, self.samples[-STOP_SAMPLES].at_s):.0f} iterations/s")
                generator.stop()
            next_s += SAMPLE_S
            time.sleep(max(0.1, next_s - time.monotonic()))
        measured = generator.finish()
        for sample in generator.samples():
            self._take(sample)
        return measured

    def _take(self, sample: Sample) -> None:
        self.samples.append(sample)
        offered = offered_per_s(self._plan, sample)
        p95 = "      –" if math.isnan(sample.p95) else f"{sample.p95:7.1f}"
        self._say(
            f"{sample.at_s:5.0f} s  offered {offered:6.1f}/s  started {sample.started / sample.span_s:6.1f}/s  "
            f"completed {sample.completed / sample.span_s:6.1f}/s  dropped {sample.dropped:4d}  p95 {p95} ms  "
            f"failures {sample.failures}  shed {sample.refused}"
        )

    def _has_broken(self) -> bool:
        last = self.samples[-STOP_SAMPLES:]
        return len(last) == STOP_SAMPLES and any(
            all(not threshold.holds(_of_sample(sample, threshold.figure)) for sample in last)
            for threshold in self._profile.stops_at
        )


def _of_sample(sample: Sample, figure: str) -> float:
    """0, which is within every bound, where nothing was timed."""
    value = {"p95_ms": sample.p95, "lost_ratio": sample.lost_ratio}[figure]
    return 0.0 if math.isnan(value) else value


def _is_overdue(began_s: float, plan: Plan) -> bool:
    return time.monotonic() > began_s + plan.seconds + plan.grace_s + OVERDUE_S


def _set_opening(profile: Profile, where: Place) -> float | None:
    """Give the room its opening; when that will be, in s since the epoch, or None where it stays as it is."""
    if profile.opens_after_s is None or where.variables is None:
        return None
    opens_s = math.ceil(time.time() + OPENING_LEAD_S + profile.opens_after_s)
    at = datetime.fromtimestamp(opens_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    done = subprocess.run(
        [sys.executable, "-m", "infra.local", "room", "1", "--who", "loadtest", "--why", "on-sale", "--opens-at", at],
        cwd=ROOT, env=dict(where.variables), capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    if done.returncode:
        raise CannotRun(f"the room could not be given its opening: {done.stderr.strip()}")
    return float(opens_s)
