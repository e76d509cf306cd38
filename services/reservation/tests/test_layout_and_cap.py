"""How seats lie in blocks, and how the cap is kept where a schedule has several."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.contract.catalog import ScheduleLayout
from services.reservation.domain.cap import Place, Places, leave_place, take_place
from services.reservation.domain.layout import BLOCK_SEATS_MAX, Layout, laid_out
from services.reservation.domain.problems import SeatNotFound

SECTION_SIZES = st.lists(st.integers(1, 1300), min_size=1, max_size=8)


def layout_of(sizes: list[int]) -> Layout:
    ids = iter(range(1, sum(sizes) + 1))
    sections = [
        {"name": str(number), "seats": [{"id": next(ids), "price": 100 + number} for _ in range(size)]}
        for number, size in enumerate(sizes)
    ]
    return laid_out(
        ScheduleLayout.model_validate(
            {"id": 3, "concertId": 1, "room": 1, "startsAt": "2027-01-15T08:00:00Z", "sections": sections}
        )
    )


@given(SECTION_SIZES)
def test_every_seat_lies_in_one_block_and_no_block_is_too_large(sizes: list[int]) -> None:
    layout = layout_of(sizes)
    assert set(layout.block) == set(range(1, sum(sizes) + 1))
    counts = [list(layout.block.values()).count(index) for index in range(layout.block_count)]
    assert all(0 < count <= BLOCK_SEATS_MAX for count in counts)


@given(SECTION_SIZES)
def test_a_section_that_fits_is_not_torn_apart(sizes: list[int]) -> None:
    layout, first = layout_of(sizes), 1
    for size in sizes:
        if size <= BLOCK_SEATS_MAX:
            assert len({layout.block[seat] for seat in range(first, first + size)}) == 1
        first += size


def test_small_sections_share_a_block() -> None:
    assert layout_of([100, 100, 300]).block_count == 1
    assert layout_of([100, 401]).block_count == 2


def test_seats_are_grouped_by_block_and_priced_by_the_server() -> None:
    layout = layout_of([500, 500])
    assert layout.by_block([501, 2, 1]) == [(0, (2, 1)), (1, (501,))]
    assert layout.amount([501, 2, 1]) == 101 + 100 + 100


def test_unknown_seats_are_named_by_pointer() -> None:
    with pytest.raises(SeatNotFound) as refused:
        layout_of([10]).by_block([1, 99, 2, 100])
    assert [error.pointer for error in refused.value.errors] == ["/seatIds/1", "/seatIds/3"]


def places_after(*places: Place) -> Places:
    return Places(places)


def test_the_cap_is_exact() -> None:
    known = places_after(Place("r-1", 5, 10))
    assert take_place(known, Place("r-2", 3, 10), 8).state == places_after(Place("r-1", 5, 10), Place("r-2", 3, 10))
    assert take_place(known, Place("r-2", 4, 10), 8).result == (Place("r-1", 5, 10),)


def test_a_retry_keeps_its_one_place() -> None:
    known = places_after(Place("r-1", 8, 10))
    again = take_place(known, Place("r-1", 8, 10), 8)
    assert (again.result, again.state) == (None, None)


def test_a_retry_after_the_lapse_is_not_taken_for_void() -> None:
    renewed = take_place(places_after(Place("r-1", 8, 10)), Place("r-1", 8, 20), 8).state
    assert renewed == places_after(Place("r-1", 8, 20))
    # Somebody who found the old place void must not drop the new one.
    assert take_place(renewed, Place("r-2", 1, 30), 8, gone={Place("r-1", 8, 10)}).result == (Place("r-1", 8, 20),)


def test_a_void_place_makes_room() -> None:
    known = places_after(Place("r-1", 8, 10))
    taken = take_place(known, Place("r-2", 2, 20), 8, gone={Place("r-1", 8, 10)})
    assert taken.state == places_after(Place("r-2", 2, 20))


def test_a_place_is_given_up_once() -> None:
    left = leave_place(places_after(Place("r-1", 8, 10)), "r-1").state
    assert left == Places()
    assert leave_place(left, "r-1").state is None
    assert leave_place(None, "r-1").state is None
