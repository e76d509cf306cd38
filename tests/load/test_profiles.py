"""The table of profiles holds together."""

import pytest

from infra.local.settings import DEMO_SEATS_TOTAL_MAX
from loadtest.figures import FIGURES
from loadtest.plan import plan_of, warm_up_plan
from loadtest.profiles import PROFILES, STEP_S, Profile, Stage

EACH = pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
SAMPLED = {"p95_ms", "lost_ratio"}


def test_every_profile_that_is_promised_is_there() -> None:
    assert set(PROFILES) == {
        "smoke",
        "load",
        "stress",
        "breakpoint",
        "spike",
        "soak",
        "onsale",
        "seed-booking",
        "seed-queue",
    }


@EACH
def test_thresholds_are_on_figures_that_exist_and_have_one_bound(profile: Profile) -> None:
    assert profile.thresholds
    for threshold in (*profile.thresholds, *profile.stops_at):
        assert threshold.figure in FIGURES
        assert (threshold.at_most is None) != (threshold.at_least is None)
    assert {threshold.figure for threshold in profile.stops_at} <= SAMPLED


@EACH
def test_there_are_seats_for_all_that_is_offered_unless_it_is_to_sell_out(profile: Profile) -> None:
    seats = profile.data.schedules * profile.data.seats
    assert seats <= DEMO_SEATS_TOTAL_MAX
    rates = [0.0, *(ramp.rate_per_s for ramp in plan_of(profile).ramps)]
    offered = sum(
        ramp.seconds * (before + ramp.rate_per_s) / 2
        for before, ramp in zip(rates, plan_of(profile).ramps, strict=False)
    )
    if profile.scenario == "booking":
        assert offered * 1.5 < seats
    elif profile.scenario == "onsale":
        assert offered * 1.5 > seats


@EACH
def test_at_its_peak_there_are_enough_users_for_what_is_offered(profile: Profile) -> None:
    peak = max(stage.factor for stage in profile.stages)
    if profile.seconds_each is not None:
        assert profile.users_max >= profile.rate_per_s * peak * profile.seconds_each
    else:
        assert profile.users_max == profile.users


@EACH
def test_a_shortened_profile_takes_that_long_and_keeps_its_steps(profile: Profile) -> None:
    short = profile.scaled(seconds=20)
    assert short.seconds == pytest.approx(20, abs=5)
    steps = [stage for stage in profile.stages if stage.seconds <= STEP_S]
    assert all(stage in short.stages for stage in steps)
    if profile.seconds_each is None:
        arrived = sum(ramp.seconds * ramp.rate_per_s for ramp in plan_of(short).ramps if ramp.rate_per_s)
        assert arrived == pytest.approx(profile.users, rel=0.15)


@EACH
def test_other_users_change_the_rate_in_proportion(profile: Profile) -> None:
    assert profile.scaled(users=profile.users * 2).rate_per_s == pytest.approx(profile.rate_per_s * 2)


def test_the_booking_profile_offers_what_2400_users_can_start() -> None:
    assert PROFILES["seed-booking"].rate_per_s == pytest.approx(228.6, abs=0.1)


def test_the_spike_is_ten_times_the_crowd_within_a_second() -> None:
    assert PROFILES["spike"].stages[0] == Stage(1, 10)


def test_before_an_opening_only_buying_is_warmed_so_that_the_line_is_empty() -> None:
    assert warm_up_plan(PROFILES["onsale"], 5).scenario == "booking"
