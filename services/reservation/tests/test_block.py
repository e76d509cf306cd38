"""The rules of a block, without I/O: one live owner per seat, and an `n` that tells every ownership apart."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from libs.common.events.reservation import SeatAt, SeatsHeld, SeatsReleased, SeatsSold
from services.reservation.domain.block import Block, HoldOrder, Seat, hold, pin, release, release_lapsed, sell
from services.reservation.domain.problems import HoldExpired, SeatTaken, TooManySeats

NOW = 1_800_000_000_000
HOLD_MS = 300_000
SKEW_MS = 2_000
SEATS_MAX = 3


def order(reservation: str = "r-1", seats: Iterable[int] = (11, 12), user: int = 7, at_ms: int = NOW) -> HoldOrder:
    named = list(seats)
    return HoldOrder(3, 0, reservation, user, named, named, at_ms + HOLD_MS, SEATS_MAX)


def held(wanted: HoldOrder, block: Block | None = None, at_ms: int = NOW) -> Block:
    after = hold(block, wanted, at_ms, SKEW_MS).state
    assert after is not None
    return after


def pinned(block: Block, seats: list[SeatAt], reservation: str = "r-1") -> Block:
    after = pin(block, reservation, seats, NOW, SKEW_MS).state
    assert after is not None
    return after


def test_a_hold_takes_all_its_seats_and_tells_of_them() -> None:
    decision = hold(None, order(), NOW, SKEW_MS)
    assert decision.state is not None
    assert decision.state.at(11) == Seat(11, 1, "held", "r-1", 7, NOW + HOLD_MS)
    assert decision.result.seats == (SeatAt(11, 1), SeatAt(12, 1))
    assert decision.events == [SeatsHeld(3, "r-1", (SeatAt(11, 1), SeatAt(12, 1)), NOW)]


def test_a_hold_that_meets_a_taken_seat_takes_none_and_names_it() -> None:
    with pytest.raises(SeatTaken) as refused:
        hold(held(order()), order("r-2", [13, 12], user=8), NOW, SKEW_MS)
    assert refused.value.taken == (12,)
    assert [error.pointer for error in refused.value.errors] == ["/seatIds/1"]


def test_an_own_seat_stays_exactly_as_it_is_in_any_state() -> None:
    block = held(order())
    for after in (block, pinned(block, [SeatAt(11, 1), SeatAt(12, 1)])):
        again = hold(after, order(at_ms=NOW + 5_000), NOW + 5_000, SKEW_MS)
        assert again.state is None
        assert not again.events


def test_a_retry_learns_the_until_of_its_first_try() -> None:
    again = hold(held(order()), order(at_ms=NOW + 5_000), NOW + 5_000, SKEW_MS)
    assert again.result.until_ms == NOW + HOLD_MS


def test_a_seat_lapses_when_its_time_has_passed_on_every_clock_and_not_a_millisecond_before() -> None:
    block, last_ms = held(order()), NOW + HOLD_MS + SKEW_MS - 1
    with pytest.raises(SeatTaken):
        hold(block, order("r-2", user=8), last_ms, SKEW_MS)
    assert release_lapsed(block, last_ms, SKEW_MS).result == 0
    pin(block, "r-1", [SeatAt(11, 1)], last_ms, SKEW_MS)

    assert held(order("r-2", user=8), block, last_ms + 1).at(11).n == 2
    assert release_lapsed(block, last_ms + 1, SKEW_MS).result == 2
    with pytest.raises(HoldExpired):
        pin(block, "r-1", [SeatAt(11, 1)], last_ms + 1, SKEW_MS)


def test_an_own_lapsed_seat_is_taken_anew() -> None:
    late_ms = NOW + HOLD_MS + SKEW_MS
    assert held(order(at_ms=late_ms), held(order()), late_ms).at(11).n == 2


def test_a_pinned_seat_does_not_lapse() -> None:
    block = pinned(held(order()), [SeatAt(11, 1), SeatAt(12, 1)])
    with pytest.raises(SeatTaken):
        hold(block, order("r-2", user=8), NOW + 100 * HOLD_MS, SKEW_MS)
    assert release_lapsed(block, NOW + 100 * HOLD_MS, SKEW_MS).result == 0


def test_an_old_ownership_pins_and_sells_nothing() -> None:
    late_ms = NOW + HOLD_MS + SKEW_MS
    block = held(order(at_ms=late_ms), held(order()), late_ms)
    with pytest.raises(HoldExpired):
        pin(block, "r-1", [SeatAt(11, 1)], late_ms, SKEW_MS)
    assert sell(block, "r-1", [SeatAt(11, 1)], NOW).result == [11]


def test_only_pinned_seats_are_sold_and_only_once() -> None:
    seats = [SeatAt(11, 1), SeatAt(12, 1)]
    assert sell(held(order()), "r-1", seats, NOW).result == [11, 12]
    sold = sell(pinned(held(order()), seats), "r-1", seats, NOW)
    assert sold.events == [SeatsSold(3, "r-1", tuple(seats), NOW)]
    again = sell(sold.state, "r-1", seats, NOW)
    assert (again.result, again.state, again.events) == ([], None, ())


def test_freeing_tests_the_owner() -> None:
    block = held(order())
    assert release(block, "r-2", [11, 12], NOW).state is None
    freed = release(block, "r-1", [11, 12, 13], NOW)
    assert freed.events == [SeatsReleased(3, "r-1", (SeatAt(11, 2), SeatAt(12, 2)), NOW)]
    assert release(freed.state, "r-1", [11, 12], NOW).state is None


def test_the_cap_is_exact_and_counts_what_the_user_has_whoever_reserved_it() -> None:
    block = held(order("r-2", [13]), held(order()))
    with pytest.raises(TooManySeats):
        hold(block, order("r-3", [14]), NOW, SKEW_MS)
    assert held(order("r-3", [14], user=8), block).at(14).state == "held"


def test_lapsed_seats_do_not_count_for_the_cap() -> None:
    late_ms = NOW + HOLD_MS + SKEW_MS
    assert held(order("r-2", [13, 14, 15]), held(order()), late_ms).at(15).owner == "r-2"


def test_what_lapsed_and_made_room_under_the_cap_cannot_be_paid_for_any_more() -> None:
    late_ms = NOW + HOLD_MS + SKEW_MS
    block = held(order("r-2", [13, 14, 15]), held(order()), late_ms)
    with pytest.raises(HoldExpired):  # by a call that began while the hold was good
        pin(block, "r-1", [SeatAt(11, 1), SeatAt(12, 1)], NOW, SKEW_MS)


def test_a_block_knows_when_its_first_seat_lapses() -> None:
    block = held(order("r-2", [13], user=8, at_ms=NOW - 1_000), held(order()))
    assert block.due_ms == NOW - 1_000 + HOLD_MS
    assert pinned(held(order()), [SeatAt(11, 1), SeatAt(12, 1)]).due_ms is None


RESERVATIONS = {"r-1": 1, "r-2": 1, "r-3": 2, "r-4": 3}
"""Each reservation's user."""


class BlockMachine(RuleBasedStateMachine):
    """Anything in any order, on one block; the catalog's merge of all that was told must agree with the block."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Block(3, 0, {})
        self.now_ms = NOW
        self.known: dict[str, tuple[SeatAt, ...]] = {}
        self.told: dict[int, tuple[int, str]] = {}

    def become(self, after: Block | None, events: Iterable[object]) -> None:
        """Take a new state over, after checking what no change may do."""
        if after is None:
            assert not list(events)
            return
        for seat in range(6):
            old, new = self.block.at(seat), after.at(seat)
            assert new.n >= old.n
            assert (new.owner != old.owner) <= (new.n > old.n)
        self.block = after
        for event in events:
            assert isinstance(event, SeatsHeld | SeatsReleased | SeatsSold)
            state = {SeatsHeld: "held", SeatsReleased: "free", SeatsSold: "sold"}[type(event)]
            for at in event.seats:
                rank = ("free", "held", "sold").index
                self.told[at.seat] = max(
                    self.told.get(at.seat, (0, "free")), (at.n, state), key=lambda told: (told[0], rank(told[1]))
                )

    @rule(who=st.sampled_from(sorted(RESERVATIONS)), seats=st.sets(st.integers(0, 5), min_size=1, max_size=3))
    def hold(self, who: str, seats: set[int]) -> None:
        user, before = RESERVATIONS[who], self.block
        wanted = order(who, sorted(seats), user, self.now_ms)
        try:
            decision = hold(before, wanted, self.now_ms, SKEW_MS)
        except (SeatTaken, TooManySeats):
            return
        self.become(decision.state, decision.events)
        self.known[who] = decision.result.seats
        for seat in map(before.at, range(6)):
            is_live = seat.state != "free" and not seat.is_lapsed(self.now_ms, SKEW_MS)
            if is_live:  # nobody lost anything, and the taker's own seats were not touched
                assert self.block.at(seat.seat) == seat
        assert all(self.block.at(seat).owner == who for seat in seats)
        live = [seat for seat in map(self.block.at, range(6)) if not seat.is_lapsed(self.now_ms, SKEW_MS)]
        assert sum(seat.user == user for seat in live) <= SEATS_MAX

    @rule(who=st.sampled_from(sorted(RESERVATIONS)))
    def pin(self, who: str) -> None:
        try:
            decision = pin(self.block, who, self.known.get(who, ()), self.now_ms, SKEW_MS)
        except HoldExpired:
            return
        self.become(decision.state, decision.events)

    @rule(who=st.sampled_from(sorted(RESERVATIONS)))
    def sell(self, who: str) -> None:
        seats = self.known.get(who, ())
        pinned_before = {at.seat for at in seats if self.block.at(at.seat).state in ("paying", "sold")}
        decision = sell(self.block, who, seats, self.now_ms)
        self.become(decision.state, decision.events)
        sold = {at.seat for at in seats if at.seat not in decision.result}
        assert sold <= pinned_before
        assert all((self.block.at(seat).owner, self.block.at(seat).state) == (who, "sold") for seat in sold)

    @rule(who=st.sampled_from(sorted(RESERVATIONS)))
    def release(self, who: str) -> None:
        others = {seat: self.block.at(seat) for seat in range(6) if self.block.at(seat).owner != who}
        decision = release(self.block, who, range(6), self.now_ms)
        self.become(decision.state, decision.events)
        assert all(self.block.at(seat) == before for seat, before in others.items())

    @rule()
    def sweep(self) -> None:
        decision = release_lapsed(self.block, self.now_ms, SKEW_MS)
        self.become(decision.state, decision.events)
        assert self.block.due_ms is None or self.block.due_ms + SKEW_MS > self.now_ms

    @rule(by_ms=st.sampled_from([1, SKEW_MS, HOLD_MS // 2, HOLD_MS]))
    def time_passes(self, by_ms: int) -> None:
        self.now_ms += by_ms

    @invariant()
    def what_was_told_is_what_is(self) -> None:
        for seat in range(6):
            is_now = self.block.at(seat)._replace(until_ms=None)
            state = "held" if is_now.state == "paying" else is_now.state
            assert self.told.get(seat, (0, "free")) == (is_now.n, state)


TestBlockMachine = BlockMachine.TestCase
TestBlockMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_the_order_of_the_request_names_the_pointers() -> None:
    wanted = replace(order("r-2", user=8), asked=[99, 12, 11])
    with pytest.raises(SeatTaken) as refused:
        hold(held(order()), wanted, NOW, SKEW_MS)
    assert [error.pointer for error in refused.value.errors] == ["/seatIds/1", "/seatIds/2"]
