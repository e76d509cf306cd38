"""What the gateway makes of news, without I/O."""

import itertools
import math
from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.domain import (
    Line,
    Pace,
    Standing,
    front_place,
    merged_line,
    merged_standing,
    waiting_place,
)

PACE = Pace(shortest_ms=1_000, longest_ms=20_000)

lines = st.builds(
    Line,
    room=st.just(1),
    fence=st.integers(0, 2),
    tick=st.integers(0, 2),
    watermark=st.integers(0, 5),
    rate=st.sampled_from([0.0, 1.0]),
    state=st.sampled_from(["open", "paused", "closed"]),
)
standings = st.builds(
    Standing, closed=st.booleans(), until_ms=st.integers(0, 5), believed_s=st.sampled_from([-math.inf, 1.0, 2.0])
)


def line(watermark: int = 0, rate: float = 0.0, **more: object) -> Line:
    return Line(**{"room": 1, "fence": 1, "tick": 1, "state": "open", "watermark": watermark, "rate": rate, **more})  # type: ignore[arg-type]


@given(st.lists(lines, min_size=1, max_size=4))
def test_in_whatever_order_ticks_arrive_the_line_ends_up_the_same(news: list[Line]) -> None:
    assert len({reduce(merged_line, order) for order in itertools.permutations(news)}) == 1


@given(lines, lines, lines)
def test_ticks_that_were_merged_elsewhere_merge_to_the_same_line(one: Line, two: Line, three: Line) -> None:
    assert merged_line(one, merged_line(two, three)) == merged_line(merged_line(one, two), three)
    assert merged_line(one, one) == one


@given(st.lists(lines, min_size=1, max_size=8), st.integers(1, 8))
def test_a_position_never_grows_whatever_arrives(news: list[Line], sequence: int) -> None:
    known = itertools.accumulate(news, merged_line)
    positions = [each.ahead_of(sequence) for each in known]
    assert positions == sorted(positions, reverse=True)


@given(lines, lines)
def test_state_and_rate_are_those_of_the_newest_tick(one: Line, other: Line) -> None:
    newest = max(one, other, key=lambda each: (each.fence, each.tick))
    if (one.fence, one.tick) != (other.fence, other.tick):
        merged = merged_line(one, other)
        assert (merged.fence, merged.tick, merged.state, merged.rate) == (
            newest.fence,
            newest.tick,
            newest.state,
            newest.rate,
        )


@given(standings, standings, standings)
def test_what_is_known_of_a_visit_needs_no_order_and_no_count(one: Standing, two: Standing, three: Standing) -> None:
    assert merged_standing(one, two) == merged_standing(two, one)
    assert merged_standing(one, merged_standing(two, three)) == merged_standing(merged_standing(one, two), three)
    assert merged_standing(one, one) == one
    assert merged_standing(one, two).closed == (one.closed or two.closed)


def test_a_place_in_line_counts_oneself_and_is_never_0_while_waiting() -> None:
    assert [waiting_place(line(watermark=5), sequence, PACE, 0).position for sequence in (9, 6, 5, 1)] == [4, 1, 1, 1]
    assert front_place(PACE, 0).position == 1


def test_the_estimate_follows_the_rate_and_is_left_out_where_nobody_can_say() -> None:
    def eta(told: Line) -> int | None:
        return waiting_place(told, 100, PACE, 0).eta_seconds

    assert eta(line(rate=3)) == 34
    assert eta(line(rate=0)) is None
    assert eta(line(rate=3, state="paused")) is None
    assert eta(line(rate=0.001)) is None


@given(st.floats(0, 1e12), st.floats(0, 1))
def test_a_pause_stays_between_a_second_and_a_third_of_the_window(wait_ms: float, chance: float) -> None:
    assert 1_000 <= PACE.pause_ms(wait_ms, chance) <= 20_000


@given(st.floats(0, 1e12), st.floats(0, 1))
def test_in_a_short_window_people_ask_three_times_whatever_the_shortest_pause(wait_ms: float, chance: float) -> None:
    assert Pace(shortest_ms=1_000, longest_ms=333).pause_ms(wait_ms, chance) <= 333


def test_people_at_the_same_place_are_spread_over_a_quarter_of_the_pause() -> None:
    pauses = [PACE.pause_ms(8_000, number / 10) for number in range(11)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (4_000, 5_000)


def test_far_back_people_ask_seldom_and_at_the_front_often() -> None:
    moving = line(rate=10)
    assert [waiting_place(moving, ahead, PACE, 0).poll_after_ms for ahead in (1, 100, 10_000)] == [1_000, 5_000, 16_000]


def test_where_nobody_came_in_lately_the_front_asks_again_at_once_and_is_told_no_estimate() -> None:
    places = [waiting_place(line(rate=0), ahead, PACE, 0) for ahead in (1, 100, 10_000)]
    assert [place.poll_after_ms for place in places] == [1_000, 1_000, 16_000]
    assert {place.eta_seconds for place in places} == {None}


def test_in_a_paused_room_nobody_needs_to_ask_soon() -> None:
    assert waiting_place(line(rate=0, state="paused"), 1, PACE, 0).poll_after_ms == 16_000
