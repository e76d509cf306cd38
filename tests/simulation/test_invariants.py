"""Every checker fires: each is fed a world that is damaged in the way it looks for, and one that is not."""

from collections.abc import Callable
from dataclasses import asdict

import orjson
import pytest

from libs.common.messaging.ports import Message
from services.wallet.domain import charge, pay_or_decline
from tests.simulation.damaged import CODEC, NOW_MS, UNTIL_MS, Damaged
from tests.simulation.invariants import rest
from tests.simulation.invariants.answers import CHARGE, HOLD, JOIN, PAY
from tests.simulation.storing import Commit


def _n_falls(world: Damaged) -> None:
    world.block([1, 2, "free", None, None, None])
    world.block([1, 1, "free", None, None, None])


def _owner_changes_within_n(world: Damaged) -> None:
    world.held()
    world.block([1, 1, "held", "r-2", 8, UNTIL_MS])


def _live_hold_is_taken(world: Damaged) -> None:
    world.held()
    world.block([1, 2, "held", "r-2", 8, UNTIL_MS])


def _pin_is_undone(world: Damaged) -> None:
    world.held()
    world.block([1, 1, "paying", "r-1", 7, None])
    world.block([1, 1, "held", "r-1", 7, UNTIL_MS])


def _sold_seat_is_freed(world: Damaged) -> None:
    world.sold()
    world.block([1, 2, "free", None, None, None])


def _pays_without_pin(world: Damaged) -> None:
    world.reservation("PAYING", before=world.held(), attempts=[{"deadline_ms": NOW_MS}])


def _sold_twice(world: Damaged) -> None:
    world.sold()
    twin = world.reservation("HELD", id_="r-2", user=8)
    world.reservation("CONFIRMED", id_="r-2", before=twin, user=8)


def _confirmed_unpaid(world: Damaged) -> None:
    body = world.held()
    world.block([1, 1, "paying", "r-1", 7, None])
    world.reservation("CONFIRMED", before=world.reservation("PAYING", before=body, attempts=[{"deadline_ms": NOW_MS}]))


def _wrong_price(world: Damaged) -> None:
    world.block([1, 1, "held", "r-1", 7, UNTIL_MS])
    world.reservation("HELD", amount=1)


def _held_in_part(world: Damaged) -> None:
    world.block([1, 1, "held", "r-1", 7, UNTIL_MS])
    world.reservation("HELD", seats=[[1, 0, 1], [2, 0, 1]], amount=20_000)


def _over_the_cap(world: Damaged) -> None:
    rows = [[seat, 1, "held", "r-1", 7, UNTIL_MS] for seat in range(1, 6)]
    world.block(*rows)
    world.reservation("HELD", seats=[[seat, 0, 1] for seat in range(1, 6)], amount=50_000)


def _back_from_the_dead(world: Damaged) -> None:
    dead = world.reservation("CANCELLED", before=world.held())
    world.reservation("HELD", before=dead)


def _below_zero(world: Damaged) -> None:
    first = charge(None, 7, 5_000, op="charge:c-1", request_digest="d", now_ms=NOW_MS)
    world.entry(first)
    world.entry(pay_or_decline(first, 7, 5_000, "pay:r-1:1", NOW_MS), amount=-9_000, balance_after=-4_000)


def _tampered_seal(world: Damaged) -> None:
    world.entry(charge(None, 7, 5_000, op="charge:c-1", request_digest="d", now_ms=NOW_MS), prev="f" * 32)


def _op_twice(world: Damaged) -> None:
    first = charge(None, 7, 5_000, op="charge:c-1", request_digest="d", now_ms=NOW_MS)
    world.entry(first)
    world.entry(charge(first, 7, 5_000, op="charge:c-1", request_digest="d", now_ms=NOW_MS))


def _entry_changes(world: Damaged) -> None:
    entry = asdict(charge(None, 7, 5_000, op="charge:c-1", request_digest="d", now_ms=NOW_MS))
    world.write("entries", "7:1", entry, {**entry, "amount": 6_000})


def _charged_twice(world: Damaged) -> None:
    world.held()
    head = charge(None, 7, 50_000, op="charge:c-1", request_digest="d", now_ms=NOW_MS)
    world.entry(head)
    world.paid("pay:r-1:1")
    world.paid("pay:r-1:2")


def _too_many_inside(world: Damaged) -> None:
    world.room(watermark=2)
    world.session(1)
    world.room(watermark=3)


def _comes_in_early(world: Damaged) -> None:
    world.room()
    world.session(4)


def _held_from_outside(world: Damaged) -> None:
    world.block([1, 1, "held", "r-1", 7, UNTIL_MS])
    world.room()
    world.reservation("HELD", room=1, sequence=3)


def _watermark_back(world: Damaged) -> None:
    world.room(watermark=2)
    world.room(watermark=1)


def _settled_without_session(world: Damaged) -> None:
    world.room(settled=1)


def _ended_reopens(world: Damaged) -> None:
    world.room()
    world.session(1, "open", before=world.session(1, "ended"))


def _newcomers_before_returning(world: Damaged) -> None:
    world.room(watermark=1, capacity=9, returning=[[1, 2, None]])
    world.room(watermark=2, capacity=9, returning=[[1, 2, None]])


def _returning_out_of_order(world: Damaged) -> None:
    world.room(capacity=9, returning=[[1, 2, None], [2, 2, None]])
    world.room(capacity=9, returning=[[1, 2, None], [2, 2, NOW_MS]])


def _told_of_no_commit(world: Damaged) -> None:
    world.watch.published(Message("t", "k", "made/up/1/0", "SeatsHeld", "s", NOW_MS, b"{}"))


def _committed_and_never_told(world: Damaged) -> None:
    lost = Message("t", "k", "blocks/1:0/1/0", "SeatsHeld", "s", NOW_MS, b"{}")
    world.watch.committed(Commit("any", "places", "1:7", None, {"places": []}, [lost]))
    world.watch.check_told(set())


def _internal_error(world: Damaged) -> None:
    world.answer(HOLD, {"code": "INTERNAL"}, status=500)


def _somebody_elses(world: Damaged) -> None:
    told = {**world.held(), "userId": 7}
    world.answer(HOLD, told)
    world.answer("cancel", told, ticket="another")


def _somebody_elses_place(world: Damaged) -> None:
    world.room()
    world.answer("poll", {"waitingQueueWithPositionResult": world.place(5, 3)}, ticket=CODEC.sign(1, 4))


def _two_answers(world: Damaged) -> None:
    world.answer(CHARGE, {"userId": 7, "amount": 1})
    world.answer(CHARGE, {"userId": 7, "amount": 2})


def _told_and_gone(world: Damaged) -> None:
    world.answer(HOLD, {"id": "r-9", "userId": 7, "status": "HELD"})


def _paid_and_not_confirmed(world: Damaged) -> None:
    world.held()
    world.answer(PAY, {"id": "r-1-1", "userId": 7, "reservationId": "r-1", "status": "COMPLETED"})
    world.answers.compare()


def _position_too_small(world: Damaged) -> None:
    world.room(watermark=1)
    world.poll(5, 3)


def _position_grows(world: Damaged) -> None:
    world.room(watermark=1)
    world.poll(5, 4)
    world.poll(5, 5)


def _in_without_session(world: Damaged) -> None:
    world.room(watermark=1)
    world.poll(1, 0)


def _refused_for_nothing(world: Damaged) -> None:
    world.held()
    world.answer(PAY, {"code": "HOLD_EXPIRED"}, status=409)


def _declined_with_enough(world: Damaged) -> None:
    world.held()
    world.watch.ledger._balances[7] = [(0, 0), (NOW_MS - 1, 50_000)]
    world.answer(PAY, {"code": "NOT_ENOUGH_POINTS"}, status=402)


def _free_seat_told_taken(world: Damaged) -> None:
    world.answer(HOLD, {"code": "SEAT_TAKEN", "errors": [{"pointer": "/seatIds/0", "detail": ""}]}, status=409)


def _one_place_for_two(world: Damaged) -> None:
    world.room()
    world.answer(JOIN, world.place(3, 1), key="a", status=201)
    world.answer(JOIN, world.place(3, 1), key="b", status=201)


def _one_place_for_two_without_a_key(world: Damaged) -> None:
    world.room()
    world.answer(JOIN, world.place(3, 1), key="", status=201)
    world.answer(JOIN, world.place(3, 1), key="", status=201)


def _account(world: Damaged) -> None:
    rest.check_accounts(world.watch, world.answers, {})


def _charged_without_ticket(world: Damaged) -> None:
    world.held()
    world.paid()
    _account(world)


def _money_from_nowhere(world: Damaged) -> None:
    first = charge(None, 7, 5_000, op="charge:c-1", request_digest="d", now_ms=NOW_MS)
    world.entry(first, kind="open")
    _account(world)


def _charge_lost(world: Damaged) -> None:
    world.entry(charge(None, 7, 5_000, op="charge:c-1", request_digest="d", now_ms=NOW_MS))
    world.answer(CHARGE, {"userId": 7, "amount": 1}, key="a")
    world.answer(CHARGE, {"userId": 7, "amount": 2}, key="b")
    _account(world)


def _charge_without_a_key_lost(world: Damaged) -> None:
    world.entry(charge(None, 7, 5_000, op="charge:c-1", request_digest="d", now_ms=NOW_MS))
    world.answer(CHARGE, {"userId": 7, "amount": 1}, key="")
    world.answer(CHARGE, {"userId": 7, "amount": 2}, key="")
    _account(world)


def _charge_doubled(world: Damaged) -> None:
    first = charge(None, 7, 5_000, op="charge:c-1", request_digest="d", now_ms=NOW_MS)
    world.entry(first)
    world.entry(charge(first, 7, 5_000, op="charge:c-2", request_digest="d", now_ms=NOW_MS))
    world.answer(CHARGE, {"userId": 7, "amount": 1}, key="a")
    _account(world)


def _seat_left_held(world: Damaged) -> None:
    world.held()
    rest.check_seats(world.watch, {1: [1, 2]})


def _view_is_old(world: Damaged) -> None:
    world.sold()
    told = {"concertSeatInfo": {"concertSeat": [{"id": 1}, {"id": 2}]}}
    rest.check_view(world.watch, "catalog-1", 1, orjson.dumps(told), {1: [1, 2]})


@pytest.mark.parametrize(
    ("invariant", "damage"),
    [
        ("I1", _sold_twice),
        ("I2", _n_falls),
        ("I2", _owner_changes_within_n),
        ("I2", _live_hold_is_taken),
        ("I2", _pin_is_undone),
        ("I2", _sold_seat_is_freed),
        ("I2", _pays_without_pin),
        ("I3", _below_zero),
        ("I4", _tampered_seal),
        ("I4", _op_twice),
        ("I4", _entry_changes),
        ("I4", _money_from_nowhere),
        ("I5", _confirmed_unpaid),
        ("I5", _wrong_price),
        ("I5", _charged_twice),
        ("I5", _charged_without_ticket),
        ("I6", _told_and_gone),
        ("I6", _paid_and_not_confirmed),
        ("I6", _one_place_for_two),
        ("I6", _one_place_for_two_without_a_key),
        ("I6", _charge_lost),
        ("I6", _charge_without_a_key_lost),
        ("I7", _held_in_part),
        ("I9", _two_answers),
        ("I9", _charge_doubled),
        ("I10", _told_of_no_commit),
        ("I10", _committed_and_never_told),
        ("I11", _too_many_inside),
        ("I11", _comes_in_early),
        ("I11", _held_from_outside),
        ("I11", _newcomers_before_returning),
        ("I11", _returning_out_of_order),
        ("I11", _position_too_small),
        ("I11", _position_grows),
        ("I11", _in_without_session),
        ("I12", _somebody_elses),
        ("I12", _somebody_elses_place),
        ("I13", _over_the_cap),
        ("I13", _seat_left_held),
        ("I14", _view_is_old),
        ("I15", _internal_error),
        ("refusals", _refused_for_nothing),
        ("refusals", _declined_with_enough),
        ("refusals", _free_seat_told_taken),
        ("order", _watermark_back),
        ("order", _settled_without_session),
        ("order", _ended_reopens),
        ("states", _back_from_the_dead),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__.strip("_"),
)
def test_a_damaged_world_is_noticed(invariant: str, damage: Callable[[Damaged], None]) -> None:
    world = Damaged()
    damage(world)
    assert invariant in world.broken


def test_a_whole_world_is_not() -> None:
    world = Damaged()
    confirmed = world.sold()
    world.room()
    world.session(1)
    world.answer(HOLD, {**confirmed, "userId": 7}, status=201)
    world.answer(PAY, {"id": "r-1-1", "userId": 7, "reservationId": "r-1", "status": "COMPLETED"})
    world.poll(1, 0)
    for _ in range(2):
        world.answer(JOIN, world.place(3, 1), key="a", status=201)
    world.answers.compare()
    rest.check_seats(world.watch, {1: [1, 2]})
    assert [str(finding) for finding in world.watch.findings.found] == []


def test_what_is_not_at_rest_is_named() -> None:
    world = Damaged()
    body = world.held()
    world.room(settled=0)
    world.session(1)
    assert rest.restless({"r-1": body}) == ["r-1 is HELD"]
    assert rest.overdue({"r-1": body}, UNTIL_MS + 5_001, 5_000)
    assert not rest.overdue({"r-1": body}, UNTIL_MS, 5_000)
    assert rest.outside(world.watch) == ["1:2", "1:3", "1:4", "1:5"]


def test_one_who_registers_in_the_write_of_a_tick_was_not_known_to_that_tick() -> None:
    world = Damaged()
    world.room(watermark=1, capacity=9, returning=[[1, 2, None]])
    world.room(watermark=3, capacity=9, returning=[[1, 2, NOW_MS], [2, 2, None]])
    assert world.broken == set()
    world.room(watermark=4, capacity=9, returning=[[1, 2, NOW_MS], [2, 2, None]])
    assert world.broken == {"I11"}


@pytest.mark.parametrize(
    ("told", "broken"),
    [
        (["ReservationPaymentDeclined", "ReservationCancelled"], set()),
        (["PaymentCancelled", "ReservationCancelled"], set()),
        (["ReservationCancelled"], {"states"}),
        (["ReservationCancelled", "ReservationPaymentDeclined"], {"states"}),
    ],
)
def test_a_payment_is_cancelled_in_one_write_only_after_its_decline_or_its_deadline(
    told: list[str], broken: set[str]
) -> None:
    world = Damaged()
    held = world.held()
    world.block([1, 1, "paying", "r-1", 7, None])
    paying = world.reservation("PAYING", before=held, attempts=[{"deadline_ms": NOW_MS}])
    world.watch.sale.reservation(paying, {**paying, "status": "CANCELLED"}, NOW_MS, told)
    assert world.broken == broken
