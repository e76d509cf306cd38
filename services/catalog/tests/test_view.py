"""News of seats may come in any order, any number of times."""

from hypothesis import given
from hypothesis import strategies as st

from services.catalog.domain import Mark, SeatState, is_taken, mark
from services.catalog.metrics import CatalogMetrics
from services.catalog.service.view import View

SEATS = st.integers(1, 4)
STATES: list[SeatState] = ["free", "held", "paying", "sold"]
NEWS = st.lists(st.tuples(SEATS, st.builds(mark, st.integers(1, 6), st.sampled_from(STATES))), max_size=30)


def view_of(*batches: list[tuple[int, Mark]]) -> View:
    view = View(METRICS)
    for batch in batches:
        view.merge(1, batch, "event")
    return view


METRICS = CatalogMetrics()


def known(view: View) -> tuple[dict[int, Mark], set[int]]:
    return view.of(1).marks, view.of(1).taken


@given(NEWS, st.randoms())
def test_order_does_not_matter(news: list[tuple[int, Mark]], random: object) -> None:
    shuffled = list(news)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis hands out a Random without its type
    assert known(view_of(news)) == known(view_of(shuffled))


@given(NEWS, NEWS, NEWS)
def test_merging_is_associative_and_repeating_changes_nothing(
    a: list[tuple[int, Mark]], b: list[tuple[int, Mark]], c: list[tuple[int, Mark]]
) -> None:
    assert known(view_of(a + b, c)) == known(view_of(a, b + c)) == known(view_of(c, a, b, a, c))


@given(NEWS)
def test_a_seat_is_as_its_largest_mark_says(news: list[tuple[int, Mark]]) -> None:
    largest: dict[int, Mark] = {}
    for seat, told in news:
        largest[seat] = max(told, largest.get(seat, 0))
    assert known(view_of(news)) == (largest, {seat for seat, told in largest.items() if is_taken(told)})


def test_the_view_moves_only_when_a_seat_is_taken_or_given_back() -> None:
    view = view_of([(1, mark(1, "held"))])
    moves = (view.moves, view.of(1).moves)
    view.merge(1, [(1, mark(1, "paying")), (1, mark(1, "sold")), (1, mark(1, "held"))], "event")
    view.merge(1, [], "snapshot")
    assert (view.moves, view.of(1).moves) == moves
    view.merge(1, [(1, mark(2, "free"))], "event")
    assert view.moves > moves[0]
    assert view.of(1).taken == set()


def test_schedules_are_told_apart() -> None:
    view = view_of([(1, mark(1, "held"))])
    assert (view.of(1).taken, view.of(2).taken) == ({1}, set())
