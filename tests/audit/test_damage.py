"""Each claim of the auditor, against a store that was damaged by hand: it names the damage."""

from collections.abc import Iterable

import pytest

from libs.common.events.topics import QUEUE_LINE, RESERVATION_OUTCOMES, RESERVATION_PAYMENTS, WALLET_PAYMENTS
from loadtest.audit.doors.ports import Document, Letter, Share
from loadtest.audit.doors.sqlite import SqliteDoor
from tests.audit.damage import Body, block, entry, reservation, row
from tests.audit.scene import COLLECTIONS, Audit, Ground

MINUTES_MS = 60_000


def test_a_sale_that_went_well_is_clean_and_every_claim_was_checked_on_something(ground: Ground) -> None:
    ground.with_history()
    audit = ground.audit()
    assert audit.offences == []
    assert audit.under_way == []
    unseen = {claim for claim, count in audit.counts.items() if count == 0}
    assert unseen == {"no event of ours is among the dead letters"}


def test_i1_a_seat_that_was_sold_twice(ground: Ground) -> None:
    first = ground.kept.reservations["bought"]
    twin = {**ground.body("reservations", first), "id": "r-twin"}
    ground.insert("reservations", "r-twin", twin)
    assert ground.audit().names("I1", "seat 1 of schedule 1", first, "r-twin")


def test_i2_a_sold_seat_whose_owner_was_never_there(ground: Ground) -> None:
    block(ground, lambda body: row(body, 1).__setitem__(3, "r-nobody"))
    assert ground.audit().names("I2", "seat 1 of schedule 1", "sold for r-nobody", "not there")


def test_i2_a_sold_seat_of_a_dead_reservation(ground: Ground) -> None:
    id_ = reservation(ground, "bought", status="CANCELLED")
    assert ground.audit().names("I2", "seat 1 of schedule 1", f"sold for {id_}", "CANCELLED")


def test_i2_a_seat_of_another_n_than_its_owner_has(ground: Ground) -> None:
    block(ground, lambda body: row(body, 2).__setitem__(1, 40))
    assert ground.audit().names("I2", "seat 2 of schedule 1 (n=40)", ground.kept.reservations["bought"], "n=1")


def test_i2_a_paid_seat_that_would_lapse(ground: Ground) -> None:
    def lapses(body: Body) -> None:
        row(body, 1)[2], row(body, 1)[5] = "held", ground.now_ms + MINUTES_MS

    block(ground, lapses)
    assert ground.audit().names("I2", "seat 1 of schedule 1", "would lapse", "CONFIRMED")


def test_i2_a_hold_without_an_end(ground: Ground) -> None:
    block(ground, lambda body: row(body, 8).__setitem__(5, None))
    assert ground.audit().names("I2", "seat 8 of schedule 1", "without an end")


def test_i2_a_free_seat_that_names_an_owner(ground: Ground) -> None:
    block(ground, lambda body: row(body, 7).__setitem__(3, "r-ghost"))
    assert ground.audit().names("I2", "seat 7 of schedule 1", "free", "r-ghost")


def test_i2_a_seat_of_another_user_than_its_owners(ground: Ground) -> None:
    block(ground, lambda body: row(body, 1).__setitem__(4, 99))
    assert ground.audit().names("I2", "seat 1 of schedule 1", "user 99")


def test_i3_a_balance_below_zero(ground: Ground) -> None:
    id_ = entry(ground, 1, -1, balance_after=-5)
    assert ground.audit().names("I3", id_, "user 1", "-5")


def test_i4_an_amount_that_does_not_add_up(ground: Ground) -> None:
    id_ = entry(ground, 1, -1, amount=-1)
    audit = ground.audit()
    assert audit.names("I4", f"entry {id_}:", "is not 80000")
    assert audit.names("I4", "all balances are")


def test_i4_an_entry_that_was_changed_after_it_was_sealed(ground: Ground) -> None:
    entry(ground, 1, 0, at_ms=1)
    assert ground.audit().names("I4", "entry 1:2", "as the one before, whose hash is")


def test_i4_an_entry_that_is_missing(ground: Ground) -> None:
    ground.delete("entries", "2:2")
    assert ground.audit().names("I4", "entry 2:3 is the 2th of user 2")


def test_i4_a_cause_with_two_entries(ground: Ground) -> None:
    op = ground.entries(1)[-1]["op"]
    ground.insert("entries", "8:2", {**ground.entries(1)[-1], "user": 8, "seq": 2})
    assert ground.audit().names("I4", op, "1:2", "8:2")


def test_i4_a_payment_that_gives(ground: Ground) -> None:
    id_ = entry(ground, 1, -1, amount=20_000, balance_after=120_000)
    assert ground.audit().names("I4", id_, "is a pay of 20000")


def test_i5_a_ticket_that_nobody_paid(ground: Ground) -> None:
    last = ground.entries(1)[-1]["seq"]
    ground.delete("entries", f"1:{last}")
    audit = ground.audit()
    assert audit.names("I5", ground.kept.reservations["bought"], "CONFIRMED for 20000", "charged: nothing")
    assert audit.names("I5", "attempt 1", ground.kept.reservations["bought"], "the wallet wrote nothing")


def test_i5_a_charge_without_a_ticket_once_its_time_is_over(ground: Ground) -> None:
    id_ = reservation(ground, "bought", status="EXPIRED")
    assert any(told.startswith(f"I5 {id_}") for told in ground.audit().under_way)
    ground.now_ms += 2 * MINUTES_MS
    assert ground.audit().names("I5", id_, "EXPIRED", "charged: {", "20000")


def test_i5_a_charge_of_another_amount_than_the_price(ground: Ground) -> None:
    id_ = reservation(ground, "bought", amount=20)
    audit = ground.audit()
    assert audit.names("I5", id_, "asks 20", "cost 20000")
    assert audit.names("I5", id_, "CONFIRMED for 20,", "20000")


def test_i5_a_refund_of_what_was_never_charged(ground: Ground) -> None:
    entry(ground, 2, -1, op="refund:r-other:1")
    audit = ground.audit()
    assert audit.names("I5", "refund:r-other:1 gives 20000 back to user 2")
    assert audit.names("I5", "there is no reservation r-other")
    assert audit.names("I5", ground.kept.reservations["refunded"], "REFUNDED", "charged: {")


def test_i5_a_charge_in_somebody_elses_ledger(ground: Ground) -> None:
    id_ = reservation(ground, "refunded", user=7)
    assert ground.audit().names("I5", f"pay:{id_}:1", "ledger of user 2", "user 7's")


def test_i7_a_confirmed_reservation_that_lost_a_seat(ground: Ground) -> None:
    block(ground, lambda body: row(body, 2).__setitem__(slice(1, 6), [2, "free", None, None, None]))
    assert ground.audit().names("I7", ground.kept.reservations["bought"], "seat 2 (n=1)", "free")


def test_i7_a_hold_of_half_its_seats(ground: Ground) -> None:
    id_ = ground.kept.reservations["held"]
    block(ground, lambda body: body.update(seats=[each for each in body["seats"] if each[0] != 9]))
    assert ground.audit().names("I7", id_, "HELD", "seat 9", "untouched")


def test_i7_a_dead_reservation_that_keeps_a_seat(ground: Ground) -> None:
    id_ = reservation(ground, "bought", status="EXPIRED")
    assert ground.audit().names("I7", id_, "EXPIRED and still has seat 1 of schedule 1")


def test_i8_a_payment_that_nobody_ever_ended(ground: Ground) -> None:
    id_ = ground.kept.reservations["bought"]
    attempt = {**ground.body("reservations", id_)["attempts"][0], "outcome": None}
    reservation(ground, "bought", status="PAYING", attempts=[attempt])
    ground.now_ms = attempt["deadline_ms"] + MINUTES_MS - 1
    assert not ground.audit().names("I8", id_)
    ground.now_ms += 1
    assert ground.audit().names("I8", f"{id_} is PAYING", attempt["deadline_ms"])


@pytest.mark.parametrize("status", ["CANCELLING", "REFUNDING"])
def test_i8_a_reservation_that_stays_on_its_way(ground: Ground, status: str) -> None:
    id_ = reservation(ground, "refunded", status=status)
    ground.now_ms += 2 * MINUTES_MS
    assert ground.audit().names("I8", f"{id_} is {status}")


def test_i8_a_hold_that_nobody_let_go_of(ground: Ground) -> None:
    ground.now_ms += 3 * MINUTES_MS
    audit = ground.audit()
    assert audit.names("I8", ground.kept.reservations["held"], "HELD and expired")
    assert audit.names("I8", "seat 8 of schedule 1", "lapsed")


def test_i8_seats_that_are_owed_for_ever(ground: Ground) -> None:
    id_ = reservation(ground, "cancelled", owes="free")
    ground.now_ms += 2 * MINUTES_MS
    assert ground.audit().names("I8", f"{id_} owes its seats to free")


def test_i8_a_visit_that_goes_on_after_its_end(ground: Ground) -> None:
    ground.edit("sessions", "1:1", lambda body: body.update(state="open", until_ms=ground.now_ms - 2 * MINUTES_MS))
    assert ground.audit().names("I8", "visit 1:1 is open")


def test_i8_an_event_that_nobody_published(ground: Ground) -> None:
    ground.sql("entries", "UPDATE outbox SET published = 0, stored_ms = ? WHERE id = 'entries/1:2/1/0'", 1)
    assert ground.audit().names("I8", "entries/1:2/1/0 waits in the outbox of wallet")


def test_i8_a_group_that_stands_still(ground: Ground) -> None:
    ground.heard.shares.append(Share(WALLET_PAYMENTS, "reservation", 3, ground.now_ms - 2 * MINUTES_MS))
    assert ground.audit().names("I8", "reservation has not finished", WALLET_PAYMENTS)


def test_i10_an_event_of_a_change_that_was_never_committed(ground: Ground) -> None:
    for event_id in ("reservations/r-nobody/1/0", "entries/1:2/99/0", "who knows", "sessions/1:9/1/0"):
        ground.heard.streams[RESERVATION_OUTCOMES].told[event_id] = ground.now_ms - 2 * MINUTES_MS
    audit = ground.audit()
    for event_id in ("reservations/r-nobody/1/0", "entries/1:2/99/0", "who knows", "sessions/1:9/1/0"):
        assert audit.names("I10", event_id, RESERVATION_OUTCOMES)


def test_i10_poison_is_no_offence_once_every_group_has_buried_it(ground: Ground) -> None:
    ground.heard.streams[RESERVATION_PAYMENTS].told["poison"] = ground.now_ms - 2 * MINUTES_MS
    ground.heard.letters.append(Letter(RESERVATION_PAYMENTS, "wallet", "1-1", "poison", "cannot be read"))
    assert ground.audit().offences == []


def test_i10_an_event_of_ours_among_the_dead_letters(ground: Ground) -> None:
    event_id = next(iter(ground.heard.streams[WALLET_PAYMENTS].told))
    ground.heard.letters.append(Letter(WALLET_PAYMENTS, "reservation", "7-0", event_id, "no such field"))
    assert ground.audit().names("I10", f"{WALLET_PAYMENTS}.dlq.reservation 7-0", event_id, "no such field")


def test_i10_an_event_that_was_marked_and_never_published(ground: Ground) -> None:
    stream = ground.heard.streams[RESERVATION_OUTCOMES]
    last = max(stream.told, key=stream.told.__getitem__)
    del stream.told[last]
    assert ground.audit().names("I10", last, "marked as published and not in", RESERVATION_OUTCOMES)


def test_i10_changes_that_nobody_was_told_of(ground: Ground) -> None:
    id_ = ground.kept.reservations["bought"]
    ground.sql("reservations", "DELETE FROM outbox WHERE type = 'ReservationConfirmed'")
    ground.sql("entries", "DELETE FROM outbox WHERE id = 'entries/1:2/1/0'")
    audit = ground.audit()
    assert audit.names("I10", f"{id_} is CONFIRMED and no event")
    assert audit.names("I10", "entry 1:2 is a pay and no event")


def test_i11_marks_of_a_room_out_of_order(ground: Ground) -> None:
    ground.edit("rooms", "1", lambda body: body.update(watermark=9))
    assert ground.audit().names("I11", "room 1", "[0, 3, 9, 3]")


def test_i11_a_settled_place_without_a_visit(ground: Ground) -> None:
    ground.delete("sessions", "1:2")
    assert ground.audit().names("I11", "place 2 is settled without a visit")


def test_i11_somebody_inside_whom_nobody_let_in(ground: Ground) -> None:
    def let_in(body: Body) -> None:
        body.update(state="open", round=1, until_ms=ground.now_ms + MINUTES_MS)

    ground.edit("sessions", "1:3", let_in)
    ground.edit("rooms", "1", lambda body: body.update(watermark=2, settled=2))
    assert ground.audit().names("I11", "visit 1:3 is open beyond watermark 2")


def test_i11_two_visits_of_one_ticket(ground: Ground) -> None:
    ticket = ground.body("sessions", "1:1")["ticket"]
    ground.edit("sessions", "1:3", lambda body: body.update(ticket=ticket))
    audit = ground.audit()
    assert audit.names("I11", f"ticket {ticket} has the visits")
    assert audit.names("I11", "visit 1:3 is of ticket", "(1, 1)")


def test_i11_more_people_inside_than_the_room_holds(ground: Ground) -> None:
    def come_in(body: Body) -> None:
        body.update(state="open", round=1, ticket="", until_ms=ground.now_ms + MINUTES_MS)

    for place in ("1:1", "1:2"):
        ground.edit("sessions", place, come_in)
    ground.edit("rooms", "1", lambda body: body.update(capacity=2, issued=4, watermark=4))
    told = "room 1 has more people inside and offers nobody answered than its capacity of 2"
    assert ground.audit().names("I11", told)
    assert _moving_line(ground).names("I11", told)


def _moving_line(ground: Ground) -> Audit:
    """An audit of a line that moves on, by one, before each look."""

    class Moving(SqliteDoor):
        def documents(self, collections: Iterable[str]) -> dict[str, list[Document]]:
            ground.edit("rooms", "1", lambda body: body.update(issued=body["issued"] + 1, watermark=body["issued"] + 1))
            return super().documents(collections)

    doors = {service: SqliteDoor(ground.folder / f"{service}.db") for service in COLLECTIONS}
    return ground.audit(stores={**doors, "queue": Moving(ground.folder / "queue.db")})


def test_i11_a_hold_without_a_visit(ground: Ground) -> None:
    ground.delete("sessions", "1:1")
    assert ground.audit().names("I11", ground.kept.reservations["from_the_line"], "no visit of (1, 1)")


def test_i11_a_hold_after_the_visits_end(ground: Ground) -> None:
    id_ = reservation(ground, "from_the_line", created_ms=ground.now_ms + 20 * MINUTES_MS)
    assert ground.audit().names("I11", id_, "after its visit's end")


def test_i11_a_hold_by_another_user_than_the_tickets(ground: Ground) -> None:
    ticket = ground.body("reservations", ground.kept.reservations["from_the_line"])["ticket"]
    ground.edit("tickets", ticket, lambda body: body.update(user=99))
    assert ground.audit().names("I11", ticket, "bound to user 99", "user 20's")


def test_i11_a_hold_that_was_undone_may_have_bound_nobody(ground: Ground) -> None:
    id_ = reservation(ground, "from_the_line", refusal=["TOO_MANY_SEATS"])
    ground.delete("tickets", ground.body("reservations", id_)["ticket"])
    assert ground.audit().offences == []


def test_i11_a_hold_in_another_room(ground: Ground) -> None:
    ground.edit("concerts", "1", lambda body: body.update(room=2))
    id_ = ground.kept.reservations["from_the_line"]
    assert ground.audit().names("I11", id_, "made in room 1, but schedule 2 is sold in room 2")


def test_i11_a_line_that_moved_back(ground: Ground) -> None:
    body = b'{"room":1,"fence":99,"tick":1,"watermark":1,"issued":3,"rate":0.0,"state":"open","at_ms":1}'
    ground.heard.streams[QUEUE_LINE].bodies.append(body)
    assert ground.audit().names("I11", "room 1 went from", "(99, 1, 1, 3)")


def test_i13_a_seat_that_was_never_published(ground: Ground) -> None:
    block(ground, lambda body: body["seats"].append([777, 1, "free", None, None, None]))
    assert ground.audit().names("I13", "block 1:0 has seat 777", "schedule 1 has not")


def test_i13_a_seat_in_two_blocks(ground: Ground) -> None:
    twin = {**ground.body("blocks", "1:0"), "index": 1}
    ground.insert("blocks", "1:1", twin)
    assert ground.audit().names("I13", "seat 1 of schedule 1 is in 2 places")


def test_i13_a_schedule_with_fewer_seats_than_it_is_sold_as(ground: Ground) -> None:
    ground.edit("schedules", "3", lambda body: body["layouts"][0]["sections"][0][1][0][1].pop())
    assert ground.audit().names("I13", "schedule 3 is sold as 20 seats and has 19")


def test_i13_a_user_with_too_many_seats(ground: Ground) -> None:
    seats = [[seat, 0, 1] for seat in range(11, 20)]
    reservation(ground, "bought", seats=seats)
    assert ground.audit().names("I13", "user 1 has 9 seats of schedule 1")
