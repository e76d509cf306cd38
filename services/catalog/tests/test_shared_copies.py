"""Copies that processes share: they save loads, and are never believed over the store."""

import pytest

from libs.common.errors import DependencyDown
from services.catalog.service.cache import SHARED_TIMEOUT_S
from services.catalog.tests.kit import MemoryShared
from services.catalog.tests.place import LATE_S, TTL_S, Place, in_place


def test_processes_share_a_young_copy() -> None:
    async def play(place: Place) -> None:
        await place.cache.get(1)
        other = place.new_cache()
        assert await other.get(1) == "first"
        assert len(place.loads) == 1
        # The copy's age counts: it does not live longer for having been handed on.
        assert place.gauge("ttl_left") == pytest.approx(TTL_S - place.delay_s, abs=0.01)

    in_place(play, lambda: Place(MemoryShared()))


def test_what_is_counted_as_asked_of_the_store_is_just_that() -> None:
    async def play(place: Place) -> None:
        await place.cache.get(1)
        await place.new_cache().get(1)
        assert place.store_loads() == len(place.loads) == 1
        place.down = True
        with pytest.raises(DependencyDown):
            await place.cache.get(2)
        assert place.store_loads() == len(place.loads) == 2

    in_place(play, lambda: Place(MemoryShared()))


def test_an_old_copy_is_not_handed_on_as_new() -> None:
    async def play(place: Place) -> None:
        await place.cache.get(1)
        place.value = b"second"
        await place.at(TTL_S * 0.6)
        assert await place.new_cache().get(1) == "second"

    in_place(play, lambda: Place(MemoryShared()))


def test_an_old_copy_is_better_than_nothing() -> None:
    async def play(place: Place) -> None:
        await place.cache.get(1)
        await place.at(TTL_S * 0.6)
        place.down = True
        assert await place.new_cache().get(1) == "first"

    in_place(play, lambda: Place(MemoryShared()))


def test_while_an_old_copy_has_to_do_the_store_is_tried_once_a_second() -> None:
    async def play(place: Place) -> None:
        await place.cache.get(1)
        await place.at(LATE_S)
        place.down, place.delay_s = True, 0.0
        fresh = place.new_cache()
        for _ in range(100):
            assert await fresh.get(1) == "first"
            await place.clock.sleep(0.009)
        assert len(place.loads) == 2

    in_place(play, lambda: Place(MemoryShared()))


def test_after_a_change_the_shared_copy_is_not_believed() -> None:
    async def play(place: Place) -> None:
        await place.cache.get(1)
        place.value = b"second"
        place.cache.changed(1)
        await place.cache.refresh(1)
        assert await place.cache.get(1) == "second"
        await place.clock.sleep(0.01)
        assert await place.new_cache().get(1) == "second"  # and was replaced

    in_place(play, lambda: Place(MemoryShared()))


def test_a_shared_cache_that_hangs_costs_50_ms_and_one_that_is_down_nothing() -> None:
    async def play(place: Place) -> None:
        assert place.shared is not None
        place.shared.delay_s = 1e6
        assert await place.cache.get(1) == "first"
        assert place.clock.monotonic_s() == pytest.approx(SHARED_TIMEOUT_S + place.delay_s)
        place.shared.delay_s, place.shared.down = 0.0, True
        began_s = place.clock.monotonic_s()
        assert await place.cache.get(2) == "first"
        assert place.clock.monotonic_s() == pytest.approx(began_s + place.delay_s)

    in_place(play, lambda: Place(MemoryShared()))
