"""The rules of the line and of a visit, each by itself."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import IdempotencyMismatch, Overloaded, RequestInProgress
from libs.common.events.queue import LineMoved, SessionClosed, SessionOpened
from libs.common.tickets import Ticket
from services.queue.domain import line
from services.queue.domain.joins import KEY_LAPSES_MS, JoinKey, claim_key, keep_place, release_key
from services.queue.domain.line import (
    Census,
    LineRules,
    Offer,
    Returning,
    Room,
    RoomChange,
    RoomClosed,
    RoomNotFound,
    admit,
    aged,
    change_room,
    lapses_again,
    lapses_upto,
    register_return,
    resign_lead,
    take_lead,
    take_place,
    tick,
)
from services.queue.domain.visits import (
    Session,
    come_back,
    come_in,
    end,
    expire,
    is_over,
    lapse,
    lapse_again,
    standing,
)

NOW = 1_000_000
RULES = LineRules(
    claim_window_ms=60_000, session_ms=600_000, session_keep_ms=86_400_000, leader_lease_ms=3_000, clock_skew_ms=2_000
)
TICKET = Ticket("t-5", 1, 5)


def led(**given: object) -> Room:
    """A room of capacity 3 that `me` has led for a while; the last tick was a second ago."""
    plain = Room(1, 3, leader="me", fence=4, tick=9, ticked_ms=NOW - 1_000)
    return replace(plain, **given)  # type: ignore[arg-type]


def census(room: Room, **given: object) -> Census:
    """What a leader counts in a room where every offer is answered and nobody is inside."""
    return replace(Census(settled=room.watermark, floor=0, unclaimed=0, open_sessions=0), **given)  # type: ignore[arg-type]


def after_tick(room: Room, counted: Census, now_ms: int = NOW) -> Room:
    decision = tick(room, room, counted, now_ms, RULES)
    assert decision.result is not None
    return decision.result.room


def test_admission_goes_to_returning_people_first_by_sequence() -> None:
    chosen = admit(3, returning=[2, 4], watermark=10, issued=20, gone=[])
    assert (chosen.returning, chosen.watermark) == ((2, 4), 11)
    chosen = admit(1, returning=[2, 4], watermark=10, issued=20, gone=[])
    assert (chosen.returning, chosen.watermark) == ((2,), 10)


def test_admission_stops_at_the_end_of_the_line() -> None:
    assert admit(100, returning=[], watermark=10, issued=12, gone=[]).watermark == 12


def test_admission_moves_over_those_who_left() -> None:
    assert admit(2, returning=[], watermark=10, issued=30, gone=[11, 12, 14, 20]).watermark == 15
    assert admit(0, returning=[], watermark=10, issued=30, gone=[11, 12]).watermark == 10


@given(
    free=st.integers(0, 30),
    returning=st.sets(st.integers(1, 50), max_size=10),
    waiting=st.integers(0, 40),
    gone=st.sets(st.integers(51, 90), max_size=20),
)
def test_admission_never_gives_out_more_than_is_free(
    free: int, returning: set[int], waiting: int, gone: set[int]
) -> None:
    left = sorted(sequence for sequence in gone if sequence <= 50 + waiting)
    chosen = admit(free, sorted(returning), 50, 50 + waiting, left)
    new = [sequence for sequence in range(51, chosen.watermark + 1) if sequence not in gone]
    assert 50 <= chosen.watermark <= 50 + waiting
    assert len(chosen.returning) + len(new) <= free
    assert not new or len(chosen.returning) == len(returning)
    assert chosen.watermark == 50 + waiting or len(chosen.returning) + len(new) == free


def test_a_place_is_the_next_number() -> None:
    decision = take_place(led(issued=41))
    assert decision.result == 42
    assert decision.state is not None
    assert decision.state.issued == 42
    assert decision.events == ()


def test_no_place_in_a_closed_or_unknown_room() -> None:
    with pytest.raises(RoomClosed):
        take_place(led(state="closed"))
    with pytest.raises(RoomNotFound):
        take_place(None)


@pytest.mark.parametrize("held", [{"state": "paused"}, {"opens_at_ms": NOW + 10**9}])
def test_a_room_that_holds_lets_nobody_in_and_ages_no_offer(held: dict[str, object]) -> None:
    room = led(
        issued=9, watermark=2, offers=(Offer(2, NOW - 59_500),), returning=(Returning(1, 2, NOW - 59_500),), **held
    )
    after = after_tick(room, census(room, settled=0, unclaimed=2))
    assert after.watermark == 2
    later = aged(after, NOW + 3_600_000, RULES)
    assert lapses_upto(later, NOW + 3_600_000, RULES) == 0
    assert not lapses_again(later.returning[0], NOW + 3_600_000, RULES)


def test_a_room_opens_at_its_time() -> None:
    room = led(issued=9, opens_at_ms=NOW)
    assert after_tick(room, census(room)).watermark == 3


def test_a_closed_room_serves_its_line() -> None:
    room = led(issued=9, state="closed")
    assert after_tick(room, census(room)).watermark == 3


@pytest.mark.parametrize(
    ("elapsed_ms", "lapsed"),
    [(60_001, True), (60_000, False)],
)
def test_an_offer_lapses_after_its_window(elapsed_ms: int, lapsed: bool) -> None:
    room = led(watermark=4, offers=(Offer(4, NOW - elapsed_ms),))
    assert lapses_upto(aged(room, NOW, RULES), NOW, RULES) == (4 if lapsed else 0)


@pytest.mark.parametrize("jump_ms", [3_600_000, -3_600_000])
def test_neither_an_outage_nor_a_jump_of_the_clock_counts_against_an_offer(jump_ms: int) -> None:
    room = led(watermark=4, offers=(Offer(4, NOW - 30_000),), ticked_ms=NOW)
    now_ms = NOW + jump_ms
    (offer,) = aged(room, now_ms, RULES).offers
    counted_ms = RULES.leader_lease_ms if jump_ms > 0 else 0
    assert now_ms - offer.at_ms == 30_000 + counted_ms


def test_a_tick_counts_offers_and_sessions_against_the_capacity() -> None:
    room = led(issued=9, watermark=2, offers=(Offer(2, NOW - 1_000),), capacity=5)
    after = after_tick(room, census(room, settled=0, unclaimed=1, open_sessions=2))
    assert after.watermark == 4
    assert after.offers == (Offer(2, NOW - 1_000), Offer(4, NOW))
    assert (after.tick, after.ticked_ms, after.unclaimed, after.open_sessions) == (10, NOW, 3, 2)


def test_a_tick_tells_how_the_line_stands_even_when_nothing_moves() -> None:
    room = led()
    decision = tick(room, room, census(room), NOW, RULES)
    assert decision.events == [LineMoved(1, 4, 10, watermark=0, issued=0, rate=0.0, state="open", at_ms=NOW)]


def test_a_lowered_capacity_lets_nobody_in_and_moves_nothing_back() -> None:
    room = led(issued=9, watermark=6, capacity=1)
    assert after_tick(room, census(room, open_sessions=4)).watermark == 6


@pytest.mark.parametrize("moved", [{"leader": "you"}, {"fence": 5}, {"tick": 11}, {"leader": None}])
def test_a_tick_on_an_old_reading_admits_nobody(moved: dict[str, object]) -> None:
    read = led(issued=9)
    decision = tick(led(issued=9, **moved), read, census(read), NOW, RULES)
    assert (decision.result, decision.state, decision.events) == (None, None, ())


def test_a_tick_recognises_its_own_earlier_success() -> None:
    room = led(issued=9)
    first = tick(room, room, census(room), NOW, RULES).state
    again = tick(first, room, census(room), NOW, RULES)
    assert again.result is not None
    assert (again.result.room, again.state, again.events) == (first, None, ())


def test_joins_and_returns_between_reading_and_admitting_are_kept() -> None:
    read = led(issued=1, watermark=1)
    found = replace(read, issued=8, returning=(Returning(1, 2),))
    decision = tick(found, read, census(read, open_sessions=1), NOW, RULES)
    assert decision.state is not None
    assert decision.state.returning == (Returning(1, 2, NOW),)
    assert (decision.state.issued, decision.state.watermark) == (8, 2)


def test_an_answered_offer_leaves_the_list_but_not_its_later_round() -> None:
    room = led(capacity=0, watermark=9, returning=(Returning(2, 2, NOW - 9), Returning(3, 4)))
    after = after_tick(room, census(room, answered=frozenset({(2, 2), (3, 3)})))
    assert after.returning == (Returning(3, 4),)


def test_the_floor_stays_below_everyone_who_returns() -> None:
    room = led(watermark=9, capacity=0, returning=(Returning(4, 2),))
    assert after_tick(room, census(room, floor=7)).floor == 3


def test_the_number_of_offers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "OFFERS_COUNT_MAX", 2)
    room = led(issued=99, watermark=2, offers=(Offer(1, NOW - 9), Offer(2, NOW - 5)), capacity=4)
    after = after_tick(room, census(room, settled=0, unclaimed=2))
    assert after.offers == (Offer(1, NOW - 9), Offer(4, NOW))


def test_the_number_of_returning_people_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "RETURNING_COUNT_MAX", 2)
    room = led(watermark=9, returning=(Returning(1, 2), Returning(3, 2)))
    with pytest.raises(Overloaded):
        register_return(room, 2, 1)
    assert register_return(room, 3, 1).result == Returning(3, 2)


def test_the_number_of_unanswered_offers_to_returning_people_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "RETURNING_OFFERED_MAX", 2)
    room = led(watermark=9, returning=(Returning(1, 2, NOW - 5), Returning(3, 2), Returning(4, 2)), capacity=9)
    offered = [entry.sequence for entry in after_tick(room, census(room, unclaimed=1)).returning if entry.offered_ms]
    assert offered == [1, 3]


def test_returning_people_stand_in_the_order_of_their_sequences() -> None:
    room = led(watermark=9, returning=(Returning(1, 2), Returning(7, 2)))
    decision = register_return(room, 4, lapsed_round=1)
    assert decision.state is not None
    assert [entry.sequence for entry in decision.state.returning] == [1, 4, 7]
    assert decision.result == Returning(4, 2)


def test_registering_again_after_another_lapse_is_a_new_round() -> None:
    room = led(watermark=9, returning=(Returning(4, 2, NOW - 9),))
    assert register_return(room, 4, lapsed_round=1).result == Returning(4, 2, NOW - 9)
    decision = register_return(room, 4, lapsed_round=2)
    assert decision.state is not None
    assert decision.state.returning == (Returning(4, 3),)


def test_a_ticket_under_the_floor_does_not_return() -> None:
    assert register_return(led(watermark=9, floor=4), 4, 1).result is None


def test_the_lead_goes_to_who_saw_the_room_as_it_still_is() -> None:
    room = led()
    taken = take_lead(room, "you", seen=room)
    assert taken.result == replace(room, leader="you", fence=5)
    assert take_lead(taken.state, "third", seen=room).result is None
    assert take_lead(taken.state, "you", seen=room) == replace(taken, state=None)
    assert take_lead(replace(room, tick=10), "you", seen=room).result is None


def test_only_the_leader_resigns() -> None:
    assert resign_lead(led(), "you").state is None
    resigned = resign_lead(led(), "me").state
    assert resigned is not None
    assert (resigned.leader, resigned.fence) == (None, 4)


def test_a_change_keeps_what_it_does_not_name() -> None:
    room = led(opens_at_ms=NOW)
    assert change_room(room, RoomChange(capacity=0)).state == replace(room, capacity=0)
    assert change_room(room, RoomChange(state="paused")).state == replace(room, state="paused")
    assert change_room(room, RoomChange(moves_opening=True)).state == replace(room, opens_at_ms=None)


def test_the_rate_settles_at_what_the_line_does_and_an_empty_line_says_nothing() -> None:
    room = led(issued=10_000, capacity=2)
    for second in range(300):
        room = after_tick(room, census(room), NOW + second * 1_000)
    idle = replace(room, issued=room.watermark)
    assert after_tick(idle, census(idle), idle.ticked_ms + 1_000).rate == room.rate
    paused = replace(room, state="paused")
    assert after_tick(paused, census(paused), paused.ticked_ms + 1_000).rate == room.rate


def test_an_open_visit_ends_once() -> None:
    session = come_in(TICKET, NOW + 600_000, NOW)
    ended, is_new = end(session, TICKET, "paid", NOW + 9, NOW + 5).result
    assert is_new
    assert (ended.state, ended.reason, ended.until_ms) == ("ended", "paid", NOW + 600_000)
    decision = end(ended, TICKET, "left", NOW + 9, NOW + 6)
    assert (decision.result, decision.state, decision.events) == ((ended, False), None, ())


def test_who_leaves_while_waiting_is_told_to_the_gateways() -> None:
    decision = end(None, TICKET, "left", NOW + 600_000, NOW)
    assert decision.events == [SessionClosed("t-5", 1, 5, reason="left", until_ms=NOW + 600_000, at_ms=NOW)]
    assert decision.result[0].state == "ended"


def test_a_visit_expires_at_its_end_and_not_before() -> None:
    session = come_in(TICKET, NOW, NOW - 600_000)
    assert expire(session, NOW - 1, NOW).state is None
    decision = expire(session, NOW, NOW + 1)
    assert decision.events == [SessionClosed("t-5", 1, 5, reason="expired", until_ms=NOW, at_ms=NOW + 1)]
    assert expire(decision.state, NOW, NOW + 1).state is None


def test_a_lapsed_one_comes_in_on_the_next_round_only() -> None:
    lapsed = lapse(1, 5, NOW)
    assert come_back(lapsed, TICKET, 3, NOW + 9, NOW).result == (lapsed, False)
    decision = come_back(lapsed, TICKET, 2, NOW + 9, NOW)
    assert decision.events == [SessionOpened("t-5", 1, 5, until_ms=NOW + 9, at_ms=NOW)]
    assert lapse_again(decision.state, 2, NOW).state is None


def test_of_a_second_claim_and_a_second_lapse_the_first_decides() -> None:
    lapsed_again = lapse_again(lapse(1, 5, NOW), 2, NOW).state
    assert lapsed_again is not None
    assert come_back(lapsed_again, TICKET, 2, NOW + 9, NOW).result == (lapsed_again, False)
    assert lapse_again(lapsed_again, 2, NOW).state is None


def test_nothing_leads_out_of_an_ended_visit() -> None:
    ended, _ = end(None, TICKET, "left", NOW, NOW).result
    assert come_back(ended, TICKET, 1, NOW, NOW).state is None
    assert lapse_again(ended, 5, NOW).state is None
    assert expire(ended, NOW, NOW).state is None


def test_a_visit_is_over_for_good_when_it_ended_or_never_began() -> None:
    assert is_over(lapse(1, 5, NOW), NOW)
    assert not is_over(lapse(1, 5, NOW), NOW - 1)
    assert not is_over(come_in(TICKET, NOW, NOW), NOW + 10**9)


@pytest.mark.parametrize(
    ("found", "room", "state", "reason"),
    [
        (None, led(), "none", None),
        (None, led(watermark=9, settled=9, floor=5), "ended", None),
        (come_in(TICKET, NOW + 1, NOW), led(), "open", None),
        (come_in(TICKET, NOW, NOW), led(), "ended", "expired"),
        (lapse(1, 5, NOW), led(), "returning", None),
        (end(None, TICKET, "left", NOW, NOW).result[0], led(), "ended", "left"),
    ],
)
def test_what_a_ticket_is_told(found: Session | None, room: Room, state: str, reason: str | None) -> None:
    told = standing(TICKET, found, room, NOW)
    assert (told.state, told.reason) == (state, reason)


def test_a_key_is_claimed_once_and_then_has_its_place() -> None:
    claimed = claim_key(None, "d", "a", NOW).state
    assert claimed is not None
    with pytest.raises(RequestInProgress):
        claim_key(claimed, "d", "b", NOW + KEY_LAPSES_MS - 1)
    kept = keep_place(claimed, claimed, 7)
    assert kept.result == 7
    assert claim_key(kept.state, "d", "b", NOW).result == 7
    with pytest.raises(IdempotencyMismatch):
        claim_key(kept.state, "other", "b", NOW)


def test_a_key_whose_join_died_is_free_after_a_while_and_the_faster_place_stays() -> None:
    claimed = JoinKey("d", "a", NOW)
    taken_over = claim_key(claimed, "d", "b", NOW + KEY_LAPSES_MS)
    assert (taken_over.result, taken_over.state) == (None, JoinKey("d", "b", NOW + KEY_LAPSES_MS))
    kept = keep_place(taken_over.state, claimed, 7).state
    assert keep_place(kept, JoinKey("d", "b", NOW), 8).result == 7


def test_a_refused_join_frees_its_key_and_no_other() -> None:
    released = release_key(JoinKey("d", "a", NOW), "a").state
    assert claim_key(released, "d", "b", NOW).result is None
    assert release_key(JoinKey("d", "a", NOW), "b").state is None
    assert release_key(JoinKey("d", "a", NOW, 7), "a").state is None
