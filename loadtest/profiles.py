"""Every kind of load, as a table: what is offered, to how much data, and what must hold.

A profile is written for a number of users and scales with it. A user can begin an iteration every `seconds_each`, so
`users / seconds_each` iterations a second are what such a crowd can start, and that is what is offered; stages are
multiples of it. As in k6's ramping-arrival-rate, a stage goes in a straight line from the rate before it to its own.
"""

from dataclasses import dataclass, replace

THINK_S = 10.5
"""What the pauses of a purchase add up to: six of 0.5 to 3 s."""

STEP_S = 1.0
"""A stage as short as this is a step, and stays one when a run is shortened."""


@dataclass(frozen=True, slots=True)
class Stage:
    """In `seconds`, from the rate before to `factor` times the profile's rate."""

    seconds: float
    factor: float


@dataclass(frozen=True, slots=True)
class Threshold:
    """`figure` is a name in `loadtest.figures.FIGURES`; it must be at most, or at least, the bound."""

    figure: str
    at_most: float | None = None
    at_least: float | None = None

    def holds(self, value: float) -> bool:
        return (self.at_most is None or value <= self.at_most) and (self.at_least is None or value >= self.at_least)

    @property
    def bound(self) -> str:
        return f"≤ {self.at_most:g}" if self.at_most is not None else f"≥ {self.at_least:g}"


@dataclass(frozen=True, slots=True)
class Data:
    """What the system is filled with, as settings of `make run`."""

    schedules: int
    seats: int
    users: int = 1_000
    room_capacity: int = 500

    @property
    def environment(self) -> dict[str, str]:
        return {
            "DEMO_SCHEDULES": str(self.schedules),
            "DEMO_SEATS": str(self.seats),
            "DEMO_USERS": str(self.users),
            "ROOM_CAPACITY": str(self.room_capacity),
        }


@dataclass(frozen=True, slots=True)
class Profile:
    """`seconds_each` None: everybody comes once. `headroom`: how many users there may be at most, in terms of those the
    peak needs. `grace_s`: what iterations get to end after the last stage.

    `overloads`: more is offered than may be served, on purpose; a generator that fell behind is then told of, and no
    failure. `opens_after_s`: nobody is let in before. `stops_at`: the run is over when one of these does not hold
    for `STOP_SAMPLES` samples in a row. `polls_every_s`: how often people in line ask; None: as often as they are told.
    """

    about: str
    scenario: str
    users: int
    stages: tuple[Stage, ...]
    data: Data
    thresholds: tuple[Threshold, ...]
    seconds_each: float | None = THINK_S
    headroom: float = 1.25
    grace_s: float = 20.0
    overloads: bool = False
    opens_after_s: float | None = None
    polls_every_s: float | None = None
    stops_at: tuple[Threshold, ...] = ()

    @property
    def seconds(self) -> float:
        return sum(stage.seconds for stage in self.stages)

    @property
    def rate_per_s(self) -> float:
        """Iterations a second at factor 1."""
        if self.seconds_each is None:
            return self.users / _area(self.stages)
        return self.users / self.seconds_each

    @property
    def users_max(self) -> int:
        peak = 1.0 if self.seconds_each is None else max(stage.factor for stage in self.stages)
        return max(1, round(self.users * peak * self.headroom))

    def scaled(self, users: int | None = None, seconds: float | None = None) -> "Profile":
        """The same profile for another number of users, or squeezed into another number of seconds."""
        stages, stretch, grace_s = self.stages, 1.0, self.grace_s
        if seconds is not None:
            steps_s = sum(stage.seconds for stage in stages if stage.seconds <= STEP_S)
            stretch = max(0.0, seconds - steps_s) / max(STEP_S, self.seconds - steps_s)
            stages = tuple(
                stage if stage.seconds <= STEP_S else replace(stage, seconds=max(STEP_S, stage.seconds * stretch))
                for stage in stages
            )
            grace_s = min(grace_s, seconds)
        opens_s = None if self.opens_after_s is None else self.opens_after_s * stretch
        return replace(self, users=users or self.users, stages=stages, grace_s=grace_s, opens_after_s=opens_s)


def _area(stages: tuple[Stage, ...]) -> float:
    """Seconds at factor 1 that would offer as much."""
    before, area = 0.0, 0.0
    for stage in stages:
        area += stage.seconds * (before + stage.factor) / 2
        before = stage.factor
    return area


def _steady(seconds: float) -> tuple[Stage, ...]:
    return Stage(1, 1), Stage(seconds - 1, 1)


STOP_SAMPLES = 3

_NO_FAILURE = Threshold("failures", at_most=0)
_NOTHING_SHED = Threshold("refused", at_most=0)
_CALM_AGAIN = Threshold("last_stage_p95_ms", at_most=200)
_EVENTS_GO_OUT = Threshold("outbox_age_max_s", at_most=5)

PROFILES: dict[str, Profile] = {
    "smoke": Profile(
        about="a few people for five seconds: does everything that a load needs work here?",
        scenario="booking", users=30, stages=_steady(5), data=Data(20, 50), grace_s=5,
        thresholds=(_NO_FAILURE, Threshold("p95_ms", at_most=2_000)),
    ),
    "load": Profile(
        about="an ordinary sale, well under what the machine can do: is everybody served, and how fast?",
        scenario="booking", users=600, stages=_steady(60), data=Data(300, 250),
        thresholds=(Threshold("p95_ms", at_most=100), Threshold("p99_ms", at_most=250), _NO_FAILURE,
                    _NOTHING_SHED, _EVENTS_GO_OUT),
    ),
    "stress": Profile(
        about="up to three times the crowd in steps, then half of it: is it refused in order, and over afterwards?",
        scenario="booking", users=1_200, data=Data(300, 250), overloads=True,
        stages=(Stage(5, 1), Stage(20, 1), Stage(5, 2), Stage(20, 2), Stage(5, 3), Stage(20, 3), Stage(5, 0.5),
                Stage(30, 0.5)),
        thresholds=(Threshold("failures_ratio", at_most=0.001), _CALM_AGAIN),
    ),
    "breakpoint": Profile(
        about="more and more, until people wait for a second or are turned away: how much can this machine do?",
        scenario="booking", users=5_000, stages=(Stage(180, 1),), data=Data(450, 250), overloads=True,
        stops_at=(Threshold("p95_ms", at_most=1_000), Threshold("lost_ratio", at_most=0.05)),
        thresholds=(Threshold("breaks_at_per_s", at_least=60),),
    ),
    "spike": Profile(
        about="nobody, then ten times the crowd within a second, then the crowd: is it served, and over afterwards?",
        scenario="booking", users=200, data=Data(300, 250), overloads=True,
        stages=(Stage(1, 10), Stage(30, 10), Stage(1, 1), Stage(38, 1)),
        thresholds=(Threshold("failures_ratio", at_most=0.001), _CALM_AGAIN, _EVENTS_GO_OUT),
    ),
    "soak": Profile(
        about="ten minutes of the same: does anything grow, slow down or get stuck?",
        scenario="booking", users=400, stages=_steady(600), data=Data(300, 250),
        thresholds=(Threshold("p95_ms", at_most=100), Threshold("last_stage_p95_ms", at_most=100),
                    _NO_FAILURE, _NOTHING_SHED, _EVENTS_GO_OUT, Threshold("rss_growth_mb_per_min", at_most=10)),
    ),
    "onsale": Profile(
        about="everybody is there before it opens, the room is small, and there are fewer seats than people",
        scenario="onsale", users=1_500, seconds_each=None, headroom=1, grace_s=10,
        stages=(Stage(1, 1), Stage(19, 1), Stage(1, 0), Stage(99, 0)), opens_after_s=25,
        data=Data(6, 250, room_capacity=200),
        thresholds=(Threshold("p95_ms", at_most=100), _NO_FAILURE, _NOTHING_SHED,
                    Threshold("inside_max", at_most=200), Threshold("inside_before_opening", at_most=0)),
    ),
    "seed-booking": Profile(
        about="the booking scenario of the report this product grew from, at what its 2,400 users can start",
        scenario="booking", users=2_400, headroom=1, stages=_steady(60), data=Data(300, 250),
        thresholds=(Threshold("p95_ms", at_most=100), _NO_FAILURE, _NOTHING_SHED),
    ),
    "seed-queue": Profile(
        about="the queue scenario of that report: 5,000 people come, and ask where they are every five seconds",
        scenario="queue", users=5_000, seconds_each=None, headroom=1, grace_s=5, polls_every_s=5,
        stages=(Stage(1, 1), Stage(19, 1), Stage(1, 0), Stage(39, 0)), data=Data(20, 50),
        thresholds=(Threshold("p95_ms", at_most=20), _NO_FAILURE, _NOTHING_SHED,
                    Threshold("cpu_ms_per_request", at_most=0.4)),
    ),
}  # fmt: skip
