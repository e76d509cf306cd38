"""What a generator is told: the part of a profile that it needs, and where to send it. Travels as JSON."""

import json
from dataclasses import asdict, dataclass
from typing import Self

from infra.local.settings import DEMO_TOKEN
from loadtest.arrivals import Ramp
from loadtest.profiles import THINK_S, Profile

WARM_USERS_MAX = 600
WARM_GRACE_S = 2.0


@dataclass(frozen=True, slots=True)
class Plan:
    """`users_ready` are made before the first start, up to `users_max` when needed. `comes_once`: each of them begins
    one iteration and no more. `wallets`: users 1 to this have one."""

    scenario: str
    ramps: tuple[Ramp, ...]
    users_ready: int
    users_max: int
    grace_s: float
    comes_once: bool
    wallets: int
    token: str
    polls_every_s: float | None

    @property
    def seconds(self) -> float:
        return sum(ramp.seconds for ramp in self.ramps)

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        told = json.loads(text)
        return cls(**{**told, "ramps": tuple(Ramp(**ramp) for ramp in told["ramps"])})


def plan_of(profile: Profile, token: str = DEMO_TOKEN) -> Plan:
    rate_per_s = profile.rate_per_s
    return Plan(
        scenario=profile.scenario,
        ramps=tuple(Ramp(stage.seconds, stage.factor * rate_per_s) for stage in profile.stages),
        users_ready=min(profile.users, profile.users_max),
        users_max=profile.users_max,
        grace_s=profile.grace_s,
        comes_once=profile.seconds_each is None,
        wallets=profile.data.users,
        token=token,
        polls_every_s=profile.polls_every_s,
    )


def warm_up_plan(profile: Profile, seconds: float, token: str = DEMO_TOKEN) -> Plan:
    """A short plan that warms what the profile will use: its own scenario, before an opening only the buying."""
    users = min(profile.users, WARM_USERS_MAX)
    return Plan(
        scenario="booking" if profile.opens_after_s is not None else profile.scenario,
        ramps=(Ramp(seconds, users / THINK_S),),
        users_ready=users,
        users_max=users,
        grace_s=WARM_GRACE_S,
        comes_once=False,
        wallets=profile.data.users,
        token=token,
        polls_every_s=profile.polls_every_s,
    )
