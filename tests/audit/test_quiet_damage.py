"""Damage that leaves everything else content: one claim alone names it."""

import pytest

from libs.common.events.topics import QUEUE_LINE, RESERVATION_OUTCOMES
from tests.audit.damage import Body, block, entry, reservation, row
from tests.audit.scene import Ground

MINUTES_MS = 60_000
OTHER_TICKET = "10001000-0000-8001-9de3-6d00ac257c65"
"""Of the place of the one who bought from the line, and not theirs."""


def test_i1_a_reservation_that_has_one_seat_twice(ground: Ground) -> None:
    id_ = ground.kept.reservations["bought"]
    reservation(ground, "bought", seats=[[1, 0, 1], [1, 0, 1]])
    assert ground.audit().names("I1", "seat 1 of schedule 1", f"for {id_} and {id_}")


def test_i2_a_hold_that_lapses_before_its_reservation(ground: Ground) -> None:
    expires_ms = ground.body("reservations", ground.kept.reservations["held"])["expires_ms"]
    block(ground, lambda body: row(body, 8).__setitem__(5, expires_ms + 1))
    assert ground.audit().offences == []
    block(ground, lambda body: row(body, 8).__setitem__(5, expires_ms - 1))
    assert ground.audit().names("I2", "seat 8 of schedule 1", "before", f"expires at {expires_ms}")


def test_i2_a_sold_seat_that_would_lapse(ground: Ground) -> None:
    block(ground, lambda body: row(body, 1).__setitem__(5, ground.now_ms + MINUTES_MS))
    assert ground.audit().names("I2", "seat 1 of schedule 1", "is sold", "would lapse")


def test_i2_a_seat_of_another_schedule_than_its_owners(ground: Ground) -> None:
    id_ = ground.kept.reservations["bought"]
    ground.insert("blocks", "3:0", {"schedule": 3, "index": 0, "due_ms": None, "seats": [[1, 1, "sold", id_, 1, None]]})
    assert ground.audit().names("I2", "seat 1 of schedule 3", f"sold for {id_}", "n=None")


def test_i2_a_free_seat_that_names_a_user(ground: Ground) -> None:
    block(ground, lambda body: row(body, 7).__setitem__(4, 4))
    assert ground.audit().names("I2", "seat 7 of schedule 1", "free", "user 4")


def test_i4_an_opening_balance_in_another_ledger(ground: Ground) -> None:
    id_ = entry(ground, 8, -1, kind="open", op="open:7")
    assert ground.audit().names("I4", f"entry {id_} of user 8", "open:7")


def test_i5_a_payment_whose_outcome_nobody_noted(ground: Ground) -> None:
    def forget(body: Body) -> None:
        body["attempts"][0]["outcome"] = None

    id_ = ground.kept.reservations["bought"]
    ground.edit("reservations", id_, forget)
    assert ground.audit().names("I5", f"attempt 1 of {id_} has no outcome", "CONFIRMED")


def test_i6_a_hold_that_expired_too_early(ground: Ground) -> None:
    id_ = ground.kept.reservations["expired"]
    expires_ms = ground.body("reservations", id_)["expires_ms"]
    reservation(ground, "expired", updated_ms=expires_ms - 1)
    assert ground.audit().names("I6", f"{id_} was to expire at {expires_ms}", "EXPIRED")


def test_i6_a_payment_that_was_called_off_too_early(ground: Ground) -> None:
    def call_off(body: Body) -> None:
        body["attempts"][0].update(outcome="cancelled", sent_ms=body["attempts"][0]["deadline_ms"] - 1)

    id_ = ground.kept.reservations["refunded"]
    ground.edit("reservations", id_, call_off)
    assert ground.audit().names("I6", f"attempt 1 of {id_} was called off")


def test_i6_a_visit_that_expired_too_early(ground: Ground) -> None:
    ground.edit("sessions", "1:1", lambda body: body.update(reason="expired"))
    assert ground.audit().names("I6", "visit 1:1", "has expired")


def test_i6_a_visit_that_ended_as_paid_and_bought_nothing(ground: Ground) -> None:
    ground.edit("sessions", "1:3", lambda body: body.update(reason="paid"))
    assert ground.audit().names("I6", "visit 1:3 ended as paid")


def test_i7_a_reservation_of_nothing(ground: Ground) -> None:
    id_ = reservation(ground, "cancelled", seats=[], amount=0)
    assert ground.audit().names("I7", f"{id_} is CANCELLED and has no seats")


def test_i7_a_reservation_under_another_id(ground: Ground) -> None:
    id_ = reservation(ground, "cancelled", id="r-other")
    assert ground.audit().names("I7", f"reservation {id_} says it is r-other")


def test_i8_a_line_that_nobody_moves(ground: Ground) -> None:
    ticked_ms = ground.body("rooms", "1")["ticked_ms"]
    ground.now_ms = ticked_ms + 2 * MINUTES_MS
    assert not ground.audit().names("I8", "room 1")
    ground.edit("rooms", "1", lambda body: body.update(issued=body["issued"] + 1))
    assert ground.audit().names("I8", "room 1 has people in line", ticked_ms)


@pytest.mark.parametrize("name", ["cancelled", "expired", "refunded"])
def test_i10_an_end_that_nobody_was_told_of(ground: Ground, name: str) -> None:
    id_ = ground.kept.reservations[name]
    ground.sql("reservations", "DELETE FROM outbox WHERE id LIKE ? AND topic = ?", f"%{id_}%", RESERVATION_OUTCOMES)
    assert ground.audit().names("I10", f"{id_} is {name.upper()} and no event")


def test_i10_a_visit_that_nobody_was_told_of(ground: Ground) -> None:
    ground.sql("sessions", "DELETE FROM outbox WHERE type = 'SessionClosed' AND id LIKE 'sessions/1:1/%'")
    assert ground.audit().names("I10", "visit 1:1 is ended", "no event")


def test_i10_an_event_in_a_topic_that_is_none(ground: Ground) -> None:
    ground.sql("entries", "UPDATE outbox SET topic = 'wallet.v2' WHERE id = 'entries/1:2/1/0'")
    assert ground.audit().names("I10", "entries/1:2/1/0", "wallet.v2, which is no topic")


def test_i11_an_offer_that_is_missing(ground: Ground) -> None:
    ground.edit("rooms", "1", lambda body: body.update(issued=5, watermark=5, offers=[[4, ground.now_ms]]))
    assert ground.audit().names("I11", "room 1: offers up to [4] between 3 and 5")


def test_i11_a_room_under_another_id(ground: Ground) -> None:
    ground.insert("rooms", "2", ground.body("rooms", "1"))
    assert ground.audit().names("I11", "room 2 says it is 1")


def test_i11_a_hold_long_after_its_visit_was_left(ground: Ground) -> None:
    ended_ms = ground.body("sessions", "1:1")["at_ms"]
    id_ = reservation(ground, "from_the_line", created_ms=ended_ms + MINUTES_MS)
    assert not ground.audit().names("I11", id_)
    reservation(ground, "from_the_line", created_ms=ended_ms + MINUTES_MS + 1)
    assert ground.audit().names("I11", id_, "long after its visit ended (paid)")


def test_i11_a_hold_by_another_ticket_of_the_same_place(ground: Ground) -> None:
    id_ = reservation(ground, "from_the_line", ticket=OTHER_TICKET)
    assert ground.audit().names("I11", id_, f"made by {OTHER_TICKET}, but the visit")


def test_i11_a_ticket_of_the_line_that_passed_as_a_static_one(ground: Ground) -> None:
    id_ = reservation(ground, "from_the_line", room=None, sequence=None)
    assert ground.audit().names("I11", id_, "as by a static ticket")


def test_i11_two_moves_of_one_tick(ground: Ground) -> None:
    body = b'{"room":1,"fence":%d,"tick":9999,"watermark":%d,"issued":3,"rate":0.0,"state":"open","at_ms":1}'
    bodies = ground.heard.streams[QUEUE_LINE].bodies
    bodies += [body % (99, 3)] * 2
    assert ground.audit().offences == []
    bodies.append(body % (99, 2))
    assert ground.audit().names("I11", "room 1 went from", "(99, 9999, 2, 3)", "(99, 9999, 3, 3)")


def test_i11_a_line_that_was_told_to_be_further_than_it_is(ground: Ground) -> None:
    body = b'{"room":1,"fence":99,"tick":9999,"watermark":4,"issued":4,"rate":0.0,"state":"open","at_ms":1}'
    ground.heard.streams[QUEUE_LINE].bodies.append(body)
    assert ground.audit().names("I11", "room 1 was told to be at (4, 4)")
