"""Iterations begin when they are due, on a clock that the test moves."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.arrivals import Arrivals, Pool, Ramp, due_times, offered_until, share
from loadtest.tally import Histogram, Tally

STEADY = (Ramp(0.001, 10.0), Ramp(2.0, 10.0))


class Crowd:
    """Users that are numbers, and a clock."""

    def __init__(self, ready: int, count_max: int, ramps: tuple[Ramp, ...] = STEADY) -> None:
        self.made = 0
        self.pool = Pool(self._make, ready, count_max)
        self.arrivals = Arrivals(ramps, self.pool)

    def _make(self) -> int:
        self.made += 1
        return self.made


def test_at_a_steady_rate_starts_are_evenly_apart() -> None:
    due = list(due_times(STEADY))
    gaps = [later - earlier for earlier, later in pairwise(due[1:])]
    assert len(due) == 21
    assert gaps == pytest.approx([0.1] * len(gaps), abs=1e-3)


def test_on_a_ramp_starts_come_closer_and_closer() -> None:
    due = list(due_times((Ramp(10.0, 10.0),)))
    gaps = [later - earlier for earlier, later in pairwise(due)]
    assert len(due) == 50
    assert gaps == sorted(gaps, reverse=True)
    assert due[-1] == pytest.approx(10 * (49 / 50) ** 0.5)


@given(st.lists(st.tuples(st.floats(0.5, 60), st.floats(0, 300)), min_size=1, max_size=5))
def test_as_many_are_due_by_any_moment_as_the_area_under_the_rate_says(stages: list[tuple[float, float]]) -> None:
    ramps = tuple(Ramp(seconds, rate) for seconds, rate in stages)
    due = list(due_times(ramps))
    assert due == sorted(due)
    for at_s in (0.3, 5.0, 47.0, sum(ramp.seconds for ramp in ramps)):
        assert sum(1 for each in due if each < at_s) == pytest.approx(offered_until(ramps, at_s), abs=1.01)


def test_nothing_starts_before_it_is_due_and_everything_that_is_due_starts() -> None:
    crowd = Crowd(ready=100, count_max=100)
    assert [start.due_s for start in crowd.arrivals.starts(-0.1)] == []
    early = list(crowd.arrivals.starts(1.0))
    assert [start.due_s for start in early] == [due for due in due_times(STEADY) if due <= 1.0]
    assert list(crowd.arrivals.starts(1.0)) == []
    late = list(crowd.arrivals.starts(99.0))
    assert len(early) + len(late) == 21
    assert crowd.arrivals.next_due_s is None


def test_a_generator_that_was_held_up_starts_at_once_and_keeps_the_intended_moments() -> None:
    crowd = Crowd(ready=100, count_max=100)
    starts = list(crowd.arrivals.starts(1.5))
    lateness = [1.5 - start.due_s for start in starts]
    assert lateness[0] == pytest.approx(1.5)
    assert lateness[-1] < 0.1
    assert all(start.user is not None for start in starts)


def test_when_all_users_are_busy_starts_are_dropped_and_not_put_off() -> None:
    crowd = Crowd(ready=2, count_max=3)
    users = [start.user for start in crowd.arrivals.starts(0.55)]
    assert len(users) == 6
    assert users.count(None) == 3
    assert crowd.made == 3
    crowd.pool.give_back(1)
    assert [start.user for start in crowd.arrivals.starts(0.75)] == [1, None]


def test_more_users_are_made_only_when_those_there_are_busy() -> None:
    crowd = Crowd(ready=2, count_max=10)
    for at_s in (0.05, 0.15, 0.25, 0.35):
        for start in crowd.arrivals.starts(at_s):
            assert start.user is not None
            crowd.pool.give_back(start.user)
    assert crowd.made == 2


def test_the_parts_of_several_workers_are_the_whole() -> None:
    parts = [Arrivals(STEADY, Pool(lambda: 0, 50, 50), part, 3) for part in range(3)]
    due = sorted(start.due_s for part in parts for start in part.starts(99.0))
    assert due == list(due_times(STEADY))


def test_the_users_of_several_workers_are_all_users() -> None:
    assert [share(7, part, 3) for part in range(3)] == [3, 2, 2]
    assert [share(1, part, 2) for part in range(2)] == [1, 0]


def test_times_add_up_across_workers_within_two_percent() -> None:
    one, other = Tally(), Tally()
    for ms in range(1, 1001):
        (one if ms % 2 else other).request("pay", float(ms), ms + 10.0)
    whole = Tally.from_json(one.as_json())
    whole.merge(Tally.from_json(other.as_json()))
    assert whole.counts["requests"] == 1000
    assert whole.latency.quantile(0.95) == pytest.approx(950, rel=0.02)
    assert whole.intended.quantile(0.5) == pytest.approx(510, rel=0.02)


def test_no_time_gives_no_quantile() -> None:
    assert Histogram().quantiles() == {}
