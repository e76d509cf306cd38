"""What may be published and what is newer, without I/O."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.contract.catalog import SCHEDULES_MAX, SEATS_MAX
from libs.common.errors import InvalidField
from libs.common.events.catalog import SchedulePublished
from services.catalog.domain import (
    ERRORS_TOLD_MAX,
    LAYOUTS_PROPOSED_MAX,
    UNTOUCHED,
    AlreadyPublished,
    Concert,
    Layout,
    Row,
    Seat,
    Section,
    Venue,
    check_venue,
    concert_body,
    concert_from,
    is_taken,
    lay_out,
    layout_body,
    layout_from,
    mark,
    propose,
    publish,
    published_layout,
    unnamed,
)

NOW = 1_800_000_000_000


def layout(schedule: int = 1, concert: int = 1, price: int = 100, starts_at_ms: int = NOW, seats: int = 2) -> Layout:
    row = Row("1", tuple(Seat(seat, str(seat), price) for seat in range(1, seats + 1)))
    return lay_out(schedule, concert, 1, starts_at_ms, (Section("A", (row,)),))


def venue(*layouts: Layout, concert: int = 1, room: int = 1) -> Venue:
    return Venue(Concert(concert, "Live", "Hall", room), layouts or (layout(),))


def pointers(wrong: Venue, in_path: int = 1) -> list[str]:
    with pytest.raises(InvalidField) as refused:
        check_venue(wrong, in_path)
    return [error.pointer for error in refused.value.errors]


def test_the_first_publication_names_every_schedule_and_tells_of_each() -> None:
    decision = publish(None, venue(layout(2, starts_at_ms=NOW + 1), layout(7)), NOW)
    assert [listing.schedule for listing in decision.result.schedules] == [7, 2]  # by start
    assert decision.state == decision.result
    assert decision.events == [SchedulePublished(2, 1, 1, 2, NOW), SchedulePublished(7, 1, 1, 2, NOW)]


def test_the_same_again_changes_and_tells_nothing() -> None:
    published = publish(None, venue(), NOW).result
    again = publish(published, venue(), NOW + 5)
    assert (again.result, again.state, list(again.events)) == (published, None, [])


def test_schedules_may_be_added_and_those_left_out_stay() -> None:
    published = publish(None, venue(layout(1)), NOW).result
    more = publish(published, venue(layout(2)), NOW)
    assert [listing.schedule for listing in more.result.schedules] == [1, 2]
    assert [event.schedule for event in more.events if isinstance(event, SchedulePublished)] == [2]


@pytest.mark.parametrize(
    "changed", [layout(price=101), layout(seats=3), layout(starts_at_ms=NOW + 1)], ids=["price", "seats", "start"]
)
def test_a_published_schedule_cannot_be_changed(changed: Layout) -> None:
    published = publish(None, venue(), NOW).result
    with pytest.raises(AlreadyPublished) as refused:
        publish(published, venue(layout(2), changed), NOW)
    assert [error.pointer for error in refused.value.errors] == ["/schedules/1"]


def test_a_concert_on_sale_stays_in_its_room_and_may_change_its_title() -> None:
    published = publish(None, venue(), NOW).result
    with pytest.raises(AlreadyPublished):
        publish(published, venue(room=2), NOW)
    renamed = replace(venue(), concert=Concert(1, "Encore", "Hall", 1))
    assert publish(published, renamed, NOW).result.title == "Encore"


def test_a_concert_has_no_more_schedules_than_fit_however_they_are_added() -> None:
    full = Venue(Concert(1, "Live", "Hall", 1), tuple(layout(n) for n in range(1, SCHEDULES_MAX + 1)))
    published = publish(None, full, NOW).result
    with pytest.raises(InvalidField):
        unnamed(published, venue(layout(SCHEDULES_MAX + 1)))


def test_a_layout_is_invisible_until_its_concert_names_it() -> None:
    proposed = propose(None, layout()).state
    assert proposed is not None
    assert published_layout(proposed, None) is None
    assert published_layout(proposed, publish(None, venue(layout(2)), NOW).result) is None
    assert published_layout(proposed, publish(None, venue(), NOW).result) == layout()


def test_of_two_layouts_proposed_for_a_schedule_the_named_one_is_published() -> None:
    first = propose(None, layout(price=100)).state
    second = propose(first, layout(price=200)).state
    assert second is not None
    for price in (100, 200):
        concert = publish(None, venue(layout(price=price)), NOW).result
        assert published_layout(second, concert) == layout(price=price)


def test_proposing_the_same_again_writes_nothing() -> None:
    assert propose(propose(None, layout()).state, layout()).state is None


def test_a_schedule_id_belongs_to_the_concert_that_came_first() -> None:
    with pytest.raises(AlreadyPublished):
        propose(propose(None, layout(concert=1)).state, layout(concert=2))


def test_layouts_are_not_collected_without_bound() -> None:
    proposed = None
    for price in range(1, LAYOUTS_PROPOSED_MAX + 1):
        proposed = propose(proposed, layout(price=price)).state
    with pytest.raises(AlreadyPublished):
        propose(proposed, layout(price=LAYOUTS_PROPOSED_MAX + 1))


def test_every_contradiction_is_named() -> None:
    seats = (Seat(1, "1", 5), Seat(1, "2", 5), Seat(2, "2", 5))
    twice = lay_out(3, 1, 1, NOW, (Section("A", (Row("1", seats), Row("2", (Seat(9, "1", 5),)))),))
    base = "/schedules/1/sections/0/rows/0/seats"
    assert pointers(venue(layout(3), twice), in_path=9) == [
        "/id",
        "/schedules/1/id",
        f"{base}/1/id",
        f"{base}/2/number",
    ]


def test_more_contradictions_than_fit_are_cut_off() -> None:
    same = lay_out(1, 1, 1, NOW, (Section("A", (Row("1", (Seat(1, "1", 5),) * 500),)),))
    assert len(pointers(venue(same))) == ERRORS_TOLD_MAX


def test_a_schedule_with_too_many_seats_is_refused() -> None:
    check_venue(venue(layout(seats=SEATS_MAX)), 1)
    assert pointers(venue(layout(seats=SEATS_MAX + 1))) == ["/schedules/0/sections"]


@pytest.mark.parametrize("change", ["schedule", "concert", "room", "starts_at_ms"])
def test_the_digest_covers_everything(change: str) -> None:
    parts = {"schedule": 1, "concert": 1, "room": 1, "starts_at_ms": NOW}
    sections = layout().sections
    other = {**parts, change: parts[change] + 1}
    assert lay_out(**parts, sections=sections).digest != lay_out(**other, sections=sections).digest
    assert layout(price=1).digest != layout(price=2).digest


def test_what_is_written_down_is_read_back() -> None:
    concert = publish(None, venue(layout(1), layout(2)), NOW).result
    assert concert_from(concert_body(concert)) == concert
    assert layout_from(layout_body(layout())) == layout()


@given(st.integers(0, 2**50), st.integers(0, 2**50))
def test_a_later_ownership_is_newer_whatever_its_state(n: int, later: int) -> None:
    if n < later:
        assert mark(n, "sold") < mark(later, "free")


def test_within_one_ownership_a_seat_goes_from_held_to_paying_to_sold() -> None:
    assert UNTOUCHED < mark(1, "held") < mark(1, "paying") < mark(1, "sold") < mark(2, "free") < mark(3, "held")
    taken = [is_taken(mark(4, state)) for state in ("free", "held", "paying", "sold")]
    assert taken == [False, True, True, True]
