"""What clients saw, changed by hand: the auditor names what does not agree with the stores, or with itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loadtest.audit.clients import BEHIND_MS
from loadtest.audit.doors.ports import CannotRead
from loadtest.audit.history import read_history
from tests.audit.scene import Ground

Line = dict[str, Any]


def call(method: str, path: str, status: int, skip: int = 0, **fields: Any) -> Callable[[Line], bool]:
    """Picks the call with this answer, after `skip` others like it."""
    left = [skip]

    def picks(line: Line) -> bool:
        wanted = {"method": method, "status": status, **fields}
        if not line["path"].endswith(path) or any(line[name] != value for name, value in wanted.items()):
            return False
        left[0] -= 1
        return left[0] < 0

    return picks


def answer(**fields: Any) -> Callable[[Line], object]:
    """Overwrites fields of the body that came back."""
    return lambda line: line["body"].update(fields)


def line(**fields: Any) -> Callable[[Line], object]:
    return lambda found: found.update(fields)


def test_i6_a_hold_that_is_not_there(ground: Ground) -> None:
    ground.with_history((call("POST", "/reservation", 201), answer(id="r-lost")))
    assert ground.audit().names("I6", "POST /api/v1/concert/reservation", "there is no r-lost")


def test_i6_a_confirmed_ticket_that_went_back(ground: Ground) -> None:
    ground.with_history((call("DELETE", ground.kept.reservations["cancelled"], 200), answer(status="CONFIRMED")))
    assert ground.audit().names("I6", ground.kept.reservations["cancelled"], "was CONFIRMED and is CANCELLED")


def test_i6_a_hold_that_became_another_one(ground: Ground) -> None:
    ground.with_history((call("POST", "/reservation", 201), answer(seatIds=[5, 7])))
    assert ground.audit().names("I6", ground.kept.reservations["expired"], "[5, 7]", "[5, 6]")


def test_i6_a_payment_that_was_forgotten(ground: Ground) -> None:
    id_ = ground.kept.reservations["bought"]
    ground.edit("reservations", id_, lambda body: body["attempts"][0].update(outcome="declined"))
    ground.with_history()
    assert ground.audit().names("I6", f"payment {id_}-1 was COMPLETED and is declined")


def test_i6_a_charge_that_was_lost(ground: Ground) -> None:
    ground.delete("entries", "8:1")
    ground.with_history()
    assert ground.audit().names("I6", "PATCH /api/v1/users/charge/point", "left user 8 with 100000")


def test_i6_a_charge_that_was_lost_and_left_as_much_as_one_that_was_not(ground: Ground) -> None:
    picks = call("PATCH", "/charge/point", 200, user=8)
    known = next(found for found in ground.calls() if picks(found))
    again = {**known, "answered_ms": known["answered_ms"] + 10}
    claim = "no charge left user 8 with 100000"
    ground.with_lines([known, again])
    assert not ground.audit().names("I6", claim)
    ground.with_lines([known, {**again, "key": "another"}])
    assert ground.audit().names("I6", claim)
    ground.with_lines([known, {**again, "key": None}])
    assert ground.audit().names("I6", claim)


def test_i6_a_hold_that_is_filed_as_refused(ground: Ground) -> None:
    id_ = ground.kept.reservations["cancelled"]
    ground.edit("reservations", id_, lambda body: body.update(refusal=["TOO_MANY_SEATS"]))
    ground.with_history()
    assert ground.audit().names("I6", f"{id_} was HELD and is filed as refused", "TOO_MANY_SEATS")


def test_i6_a_hold_that_is_shorter_than_was_said(ground: Ground) -> None:
    ground.with_history((call("POST", "/reservation", 201), answer(expiresAt="2030-01-01T00:00:00.000Z")))
    assert ground.audit().names("I6", ground.kept.reservations["expired"], "2030-01-01T00:00:00.000Z")


def test_i6_a_payment_of_another_amount(ground: Ground) -> None:
    ground.with_history((call("POST", "/payment", 200, user=1), answer(amount=1)))
    id_ = ground.kept.reservations["bought"]
    assert ground.audit().names("I6", f"payment {id_}-1 was ('{id_}', 1, 1)")


def test_i6_a_balance_that_never_was(ground: Ground) -> None:
    known = next(found for found in ground.calls() if call("PATCH", "/charge/point", 200, user=8)(found))
    shown = {**known, "method": "GET", "path": "/api/v1/users/8/wallet", "user": None, "key": None, "request": None}
    ground.with_lines([shown])
    assert ground.audit().offences == []
    ground.delete("entries", "8:1")
    assert ground.audit().names("I6", "GET /api/v1/users/8/wallet", "no entry left user 8 with 100000")


def test_i6_somebody_who_was_told_to_come_in_and_has_no_visit(ground: Ground) -> None:
    for change in (lambda body: body.update(round=0), lambda body: body.update(state="lapsed")):
        ground.edit("sessions", "1:1", change)
        ground.with_history()
        assert ground.audit().names("I6", "GET /api/v1/token", "was INSIDE, and its visit is")


def test_i6_somebody_who_was_told_that_it_is_over_and_it_was_not(ground: Ground) -> None:
    def told(found: Line) -> None:
        found["body"]["waitingQueueWithPositionResult"]["state"] = "ENDED"

    ground.with_history((call("GET", "/token", 200), told))
    assert ground.audit().offences == []
    ground.edit("sessions", "1:1", lambda body: body.update(state="open", until_ms=ground.now_ms + 300_000))
    assert ground.audit().names("I6", "GET /api/v1/token", "was ENDED, and its visit is open")


def test_i6_a_place_that_another_ticket_visits(ground: Ground) -> None:
    other = "10001000-0000-8001-8000-000000000000"
    ground.edit("sessions", "1:1", lambda body: body.update(ticket=other))
    ground.with_history()
    assert ground.audit().names("I6", "POST /api/v1/token/create", f"its visit is of {other}")


def test_i6_a_place_in_line_that_was_lost(ground: Ground) -> None:
    ground.edit("rooms", "1", lambda body: body.update(issued=2, watermark=2, settled=2))
    ground.with_history()
    assert ground.audit().names("I6", "POST /api/v1/token/create", "place (1, 3) was never given out")


def test_i6_somebody_who_left_and_is_still_there(ground: Ground) -> None:
    ground.edit("sessions", "1:3", lambda body: body.update(state="open", round=1))
    ground.with_history()
    assert ground.audit().names("I6", "DELETE /api/v1/token", "has left, and its visit is open")


def test_i9_one_key_with_two_answers(ground: Ground) -> None:
    ground.with_history((call("POST", "/reservation", 201, skip=1, key="hold"), answer(id="r-second")))
    assert ground.audit().names("I9", "key hold of user 1", "r-second")


def test_i9_one_key_that_did_two_things(ground: Ground) -> None:
    ground.with_history((call("POST", "/payment", 200, skip=1, key="pay"), line(request="another")))
    assert ground.audit().names("I9", "key pay of user 20", "another")


def test_i9_a_key_that_was_refused_after_it_was_answered(ground: Ground) -> None:
    picks = call("POST", "/reservation", 201, key="hold")
    known = next(found for found in ground.calls() if picks(found))
    sent_ms = known["answered_ms"] + 1
    again = {**known, "status": 409, "body": {"code": "SEAT_TAKEN"}, "sent_ms": sent_ms, "answered_ms": sent_ms + 1}
    claim = ("key hold of user 1", "answered 201 and then 409 SEAT_TAKEN")
    ground.with_lines([known, again])
    assert ground.audit().names("I9", *claim)
    for rightly in ({"body": {"code": "REQUEST_IN_PROGRESS"}}, {"request": "other"}, {"sent_ms": known["sent_ms"]}):
        ground.with_lines([known, {**again, **rightly}])
        assert ground.audit().offences == []


def test_i9_a_payment_that_was_answered_and_then_expired(ground: Ground) -> None:
    picks = call("POST", "/payment", 200, user=2)
    known = {**next(found for found in ground.calls() if picks(found)), "key": "pay"}
    sent_ms = known["answered_ms"] + 1
    again = {**known, "status": 409, "body": {"code": "HOLD_EXPIRED"}, "sent_ms": sent_ms, "answered_ms": sent_ms + 1}
    ground.with_lines([known, again])
    assert ground.audit().offences == []
    reservation_id = ground.kept.reservations["refunded"]
    ground.edit("reservations", reservation_id, lambda body: body.update(status="CONFIRMED"))
    assert ground.audit().names("I9", "answered 200 and then 409 HOLD_EXPIRED")


def test_i9_a_second_effect_of_one_key(ground: Ground) -> None:
    ground.with_history((call("POST", "/reservation", 201, key="hold"), line(key="other")))
    assert ground.audit().names("I9", "key other made", ground.kept.reservations["bought"])
    ground.edit("entries", "8:1", lambda body: body.update(op="charge:c-second"))
    ground.with_history()
    assert ground.audit().names("I9", "key start left 100000; under charge:c-", "is nothing")


def test_i11_a_place_behind_somebody_who_came_later(ground: Ground) -> None:
    ground.with_history((call("POST", "/token/create", 201), line(sent_ms=1_900_000_000_000)))
    assert ground.audit().names("I11", "place 1 of room 1 was given out after place 3")


@pytest.mark.parametrize("first_status", [0, 503])
def test_i11_a_place_given_out_at_an_earlier_sending_is_not_one_behind_somebody(
    ground: Ground, first_status: int
) -> None:
    picks = call("POST", "/token/create", 201)
    early = next(found for found in ground.calls() if picks(found))
    place_2 = "10001000-0000-8002-9de3-6d00ac257c65"
    in_between = {
        **early,
        "user": 9,
        "key": "b",
        "sent_ms": early["sent_ms"] + 10,
        "answered_ms": early["sent_ms"] + 20,
    }
    in_between["body"] = {**early["body"], "uuid": place_2}
    again = {**early, "key": "a", "sent_ms": early["sent_ms"] + 30, "answered_ms": early["sent_ms"] + 40}
    claim = "place 1 of room 1 was given out after place 2"
    ground.with_lines([in_between, again])
    assert ground.audit().names("I11", claim)
    unanswered = {**early, "key": "a", "answered_ms": early["sent_ms"] + 5, "status": first_status, "body": None}
    ground.with_lines([unanswered, in_between, again])
    assert not ground.audit().names("I11", claim)


def test_i11_one_place_for_two(ground: Ground) -> None:
    picks = call("POST", "/token/create", 201)
    known = {**next(found for found in ground.calls() if picks(found)), "key": "a"}
    again = {**known, "answered_ms": known["answered_ms"] + 10}
    claim = "place 1 of room 1 was given to"
    ground.with_lines([known, again])
    assert not ground.audit().names("I11", claim)
    for other in ({"user": 9}, {"key": "b"}):
        ground.with_lines([known, {**again, **other}])
        assert ground.audit().names("I11", claim)
    ground.with_lines([{**known, "key": None}, {**again, "key": None}])
    assert ground.audit().names("I11", claim)


@pytest.mark.parametrize(("more_ms", "is_named"), [(0, False), (1, True), (60_000, True)])
def test_i11_somebody_who_waits_for_longer_behind_those_who_came_later_than_a_gateway_may_be_behind(
    ground: Ground, more_ms: int, is_named: bool
) -> None:
    picks = call("GET", "/token", 200)
    first = next(found for found in ground.calls() if picks(found))
    sent_ms = first["answered_ms"] + BEHIND_MS + more_ms
    waits = {"uuid": first["ticket"], "state": "WAITING", "position": 2}
    later = {**first, "sent_ms": sent_ms, "answered_ms": sent_ms, "body": {"waitingQueueWithPositionResult": waits}}
    ground.with_lines([{**first, "ticket": "10001000-0000-8002-9de3-6d00ac257c65"}, later])
    assert ground.audit().names("I11", "place 1 of room 1 waits, and place 2 is inside") == is_named
    waits["position"] = 1  # as for somebody who came after the offer had lapsed
    ground.with_lines([{**first, "ticket": "10001000-0000-8002-9de3-6d00ac257c65"}, later])
    assert not ground.audit().names("I11", "waits, and place")


def test_i12_an_answer_about_somebody_elses_ticket(ground: Ground) -> None:
    ground.with_history((call("POST", "/payment", 200, user=1), answer(userId=2)))
    assert ground.audit().names("I12", "user 1 was answered with", "of user 2")


def test_i12_a_wallet_of_somebody_else(ground: Ground) -> None:
    ground.with_history((call("PATCH", "/charge/point", 200, user=8), answer(userId=7)))
    assert ground.audit().names("I12", "wallet of user 8 was answered with", "'userId': 7")
    known = next(found for found in ground.calls() if call("PATCH", "/charge/point", 200, user=8)(found))
    ground.with_lines([{**known, "method": "GET", "path": "/api/v1/users/7/wallet", "user": None, "key": None}])
    assert ground.audit().names("I12", "wallet of user 7 was answered with", "'userId': 8")


def test_i12_a_reservation_shown_to_another_ticket(ground: Ground) -> None:
    ground.with_history((call("POST", "/payment", 200, user=20), line(ticket="10001000-0000-8002-8000-000000000000")))
    assert ground.audit().names(
        "I12", "10001000-0000-8002-8000-000000000000", ground.kept.reservations["from_the_line"]
    )


def test_i12_a_place_in_line_that_is_somebody_elses(ground: Ground) -> None:
    other = "10001000-0000-8002-8000-000000000000"
    ground.with_history((call("GET", "/token", 200), line(ticket=other)))
    assert ground.audit().names("I12", f"ticket {other} was shown the place of 10001000-")


def test_i15_a_request_that_crashed_somebody(ground: Ground) -> None:
    ground.with_history((call("POST", "/token/create", 201), line(status=500)))
    assert ground.audit().names("I15", "POST /api/v1/token/create", "answered 500")


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"sent_ms":"soon"}'])
def test_a_history_that_cannot_be_read_is_named_with_its_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(f"{text}\n")
    with pytest.raises(CannotRead, match=r"history\.jsonl:1: not a call"):
        read_history(path)
