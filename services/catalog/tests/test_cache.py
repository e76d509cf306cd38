"""The cache's promises, in virtual time."""

import asyncio
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.errors import DependencyDown, Overloaded
from services.catalog.service.cache import (
    ABSENT_COUNT_MAX,
    BETA,
    JITTER,
    LOAD_TIMEOUT_S,
    LOADS_RUNNING_MAX,
    STORE_LOADS_RUNNING_MAX,
    TURN_TIMEOUT_S,
)
from services.catalog.tests.place import ABSENT_S, LATE_S, STALE_S, TTL_S, Place, in_place


def test_2400_readers_of_an_expired_key_cost_one_load_and_none_of_them_waits() -> None:
    async def play(place: Place) -> None:
        await place.cache.get(1)
        await place.at(LATE_S + 1)
        place.value, began_s = b"second", place.clock.monotonic_s()
        answers = await asyncio.gather(*(place.cache.get(1) for _ in range(2400)))
        assert set(answers) == {"first"}
        assert place.clock.monotonic_s() == began_s
        await place.clock.sleep(0.05)
        assert await place.cache.get(1) == "first"  # the load is still under way
        await place.clock.sleep(0.06)
        assert await place.cache.get(1) == "second"
        assert len(place.loads) == 2
        assert place.reads("stale") == 2401

    in_place(play)


def test_2400_readers_of_a_key_that_is_not_there_yet_share_one_load() -> None:
    async def play(place: Place) -> None:
        answers = await asyncio.gather(*(place.cache.get(1) for _ in range(2400)))
        assert (set(answers), len(place.loads)) == ({"first"}, 1)

    in_place(play)


def test_a_reader_that_gives_up_does_not_end_the_load_for_the_others() -> None:
    async def play(place: Place) -> None:
        hasty, patient = (asyncio.create_task(place.cache.get(1)) for _ in range(2))
        await asyncio.sleep(0.01)
        hasty.cancel()
        assert await patient == "first"
        assert len(place.loads) == 1

    in_place(play)


def test_while_the_store_is_down_the_stale_value_is_told_for_60_s_and_not_longer() -> None:
    async def play(place: Place) -> None:
        await place.cache.get(1)
        place.down = True
        ends_s = place.delay_s + TTL_S  # chance 0.5: no jitter
        for second in range(1, 60):
            await place.at(ends_s + second)
            assert await place.cache.get(1) == "first"
        assert len(place.loads) <= 61  # a try a second, however many read
        await place.at(ends_s + STALE_S + 1)
        with pytest.raises(DependencyDown):
            await place.cache.get(1)
        place.down = False
        assert await place.cache.get(1) == "first"

    in_place(play)


def test_after_a_failed_refresh_readers_do_not_start_another_at_once() -> None:
    async def play(place: Place) -> None:
        await place.cache.get(1)
        await place.at(LATE_S)
        place.down = True
        for _ in range(50):
            await place.cache.get(1)
            await place.clock.sleep(0.01)
        assert len(place.loads) == 2

    in_place(play)


def test_a_store_that_hangs_is_given_up() -> None:
    async def play(place: Place) -> None:
        place.delay_s = 1e6
        with pytest.raises(DependencyDown):
            await place.cache.get(1)
        assert place.clock.monotonic_s() == pytest.approx(LOAD_TIMEOUT_S)

    in_place(play)


def test_not_there_is_remembered_shortly() -> None:
    async def play(place: Place) -> None:
        place.value = None
        for _ in range(5):
            assert await place.cache.get(1) is None
        assert len(place.loads) == 1
        assert place.reads("absent") == 4
        await place.clock.sleep(ABSENT_S)
        place.value = b"now"
        assert await place.cache.get(1) == "now"

    in_place(play)


def test_what_is_not_there_is_remembered_in_bounded_number() -> None:
    async def play(place: Place) -> None:
        place.value, place.delay_s = None, 0.0
        for key in range(ABSENT_COUNT_MAX + 10):
            await place.cache.get(key)
        assert len(place.cache._absent) == ABSENT_COUNT_MAX

    in_place(play)


def test_too_many_different_loads_are_refused_and_a_refresh_is_put_off() -> None:
    async def play(place: Place) -> None:
        await place.cache.get(0)
        await place.at(LATE_S)
        running = [asyncio.create_task(place.cache.get(key)) for key in range(1, LOADS_RUNNING_MAX + 1)]
        await asyncio.sleep(0.01)
        with pytest.raises(Overloaded):
            await place.cache.get(-1)
        assert await place.cache.get(0) == "first"
        assert place.loads.count(0) == 1
        await asyncio.gather(*running, return_exceptions=True)

    in_place(play)


def test_of_many_different_loads_a_few_ask_the_store_at_once_and_those_that_wait_too_long_are_told() -> None:
    async def play(place: Place) -> None:
        asked = [asyncio.create_task(place.cache.get(key)) for key in range(100)]
        await place.at(0.05)
        assert len(place.loads) == STORE_LOADS_RUNNING_MAX
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert place.clock.monotonic_s() <= TURN_TIMEOUT_S + 2 * place.delay_s
        assert answers.count("first") == len(place.loads) >= STORE_LOADS_RUNNING_MAX * TURN_TIMEOUT_S / place.delay_s
        assert {type(answer) for answer in answers if answer != "first"} == {DependencyDown}

    in_place(play)


def test_what_is_missing_all_at_once_is_brought_by_a_store_that_serves_few_and_no_load_is_in_vain() -> None:
    """Seat maps are two reads each; with all of them in line for the store's connections, every load ran out of time
    after its first."""

    class Narrow(Place):
        connections = asyncio.Semaphore(8)

        async def _load(self, key: int) -> bytes | None:
            self.loads.append(key)
            for _ in range(2):
                async with self.connections:
                    await self.clock.sleep(self.delay_s)
            return self.value

    async def play(place: Place) -> None:
        keys = range(200)
        for _ in range(10):
            await asyncio.gather(*(place.cache.get(key) for key in keys), return_exceptions=True)
        assert [key for key in keys if place.cache.peek(key) is None] == []
        assert len(place.loads) == len(keys)

    in_place(play, Narrow)


@settings(max_examples=50)
@given(st.floats(0, 1, exclude_max=True))
def test_times_to_live_differ_by_at_most_a_tenth(chance: float) -> None:
    async def play(place: Place) -> None:
        await place.cache.get(1)
        lived_s = place.gauge("ttl_left") + place.delay_s
        assert TTL_S * (1 - JITTER) - 1e-6 <= lived_s <= TTL_S * (1 + JITTER) + 1e-6
        assert lived_s == pytest.approx(TTL_S * (1 + JITTER * (2 * chance - 1)))

    in_place(play, lambda: Place(chance=lambda: chance))


@pytest.mark.parametrize("left_in_loads", [0.5, 1.0, 2.0])
def test_a_reader_refreshes_early_with_the_chance_of_xfetch(left_in_loads: float) -> None:
    """P(early) = P(-β·δ·ln(U) ≥ left) = exp(-left / (β·δ))."""
    tries, begun = 4_000, 0

    async def play(place: Place) -> None:
        nonlocal begun
        await place.cache.get(1)
        entry = place.cache._entries[1]
        begun = sum(place.cache._is_early(entry, left_in_loads * entry.cost_s) for _ in range(tries))

    in_place(play, lambda: Place(chance=random.Random(1).random))
    assert begun / tries == pytest.approx(math.exp(-left_in_loads / BETA), abs=0.02)


def test_early_refresh_serves_the_value_at_hand_and_begins_one_load() -> None:
    async def play(place: Place) -> None:
        await place.cache.get(1)
        place.value = b"second"
        await place.at(TTL_S - 0.05)
        assert {await place.cache.get(1) for _ in range(100)} == {"first"}
        await place.clock.sleep(0.11)
        assert await place.cache.get(1) == "second"
        assert len(place.loads) == 2
        assert place.reads("stale") == 0

    # 0.9: early within 2.3 loads of the end; as jitter it makes the life 8 % longer.
    draws = iter([0.5])
    in_place(play, lambda: Place(chance=lambda: next(draws, 0.9)))


def test_far_from_its_end_nothing_is_refreshed_early_even_by_the_smallest_chance() -> None:
    async def play(place: Place) -> None:
        await place.cache.get(1)
        for _ in range(100):
            await place.cache.get(1)
        assert len(place.loads) == 1

    in_place(play, lambda: Place(chance=lambda: 1 - 2**-53))


def test_an_unchanged_thing_keeps_its_decoded_form() -> None:
    async def play(place: Place) -> None:
        await place.cache.get(1)
        await place.cache.refresh(1)
        assert (len(place.loads), place.decoded, place.cache.weight) == (2, 1, 5)
        place.value = b"second"
        assert await place.cache.refresh(1) == "second"

    in_place(play)


def test_memory_is_bounded_and_what_was_read_longest_ago_goes_first() -> None:
    async def play(place: Place) -> None:
        cache = place.new_cache(weight_max=15)  # three values of five bytes
        for key in (1, 2, 3, 1, 4):
            await cache.get(key)
        assert cache.weight == 15
        assert [key for key in (1, 2, 3, 4) if cache.peek(key) is not None] == [1, 3, 4]

    in_place(play)


def test_news_of_a_change_makes_the_value_stale_and_a_load_under_way_the_past() -> None:
    async def play(place: Place) -> None:
        await place.cache.get(1)
        late = asyncio.create_task(place.cache.refresh(1))
        await asyncio.sleep(0.05)
        place.value = b"second"
        place.cache.changed(1)
        assert await place.cache.get(1) == "first"  # told while the new load runs
        await place.clock.sleep(0.2)
        assert await late == "first"
        assert await place.cache.get(1) == "second"

    in_place(play)


def test_what_was_loaded_while_the_store_changed_is_stale_from_the_first() -> None:
    async def play(place: Place) -> None:
        first = asyncio.create_task(place.cache.get(1))
        await asyncio.sleep(0.05)
        place.value = b"second"
        place.cache.changed(1)
        assert await first == "first"
        assert await place.cache.get(1) == "first"
        await place.clock.sleep(0.2)
        assert await place.cache.get(1) == "second"

    in_place(play)


def test_a_load_that_was_overtaken_never_replaces_what_came_after_it() -> None:
    async def play(place: Place) -> None:
        slow = asyncio.create_task(place.cache.get(1))
        await asyncio.sleep(0.05)
        place.value, place.delay_s = b"second", 0.01
        place.cache.changed(1)
        assert await place.cache.get(1) == "second"
        assert await slow == "second"
        assert await place.cache.get(1) == "second"

    in_place(play)


def test_news_of_something_new_ends_the_memory_of_its_absence() -> None:
    async def play(place: Place) -> None:
        place.value = None
        await place.cache.get(1)
        place.value = b"now"
        place.cache.changed(1)
        assert await place.cache.get(1) == "now"

    in_place(play)


def test_a_fault_of_ours_is_logged_even_when_nobody_waits(capsys: pytest.CaptureFixture[str]) -> None:
    async def play(place: Place) -> None:
        await place.cache.get(1)
        await place.at(LATE_S)
        place.value = b"\xff"
        assert await place.cache.get(1) == "first"
        await place.clock.sleep(1)
        assert await place.cache.get(1) == "first"

    in_place(play)
    assert "UnicodeDecodeError" in capsys.readouterr().out
