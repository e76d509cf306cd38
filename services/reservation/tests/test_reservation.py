"""The reservation's states, without I/O: whatever becomes of the wallet's answers, nobody is charged twice."""

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from libs.common.errors import IdempotencyMismatch, NotYours, Problem, RateLimited, RequestInProgress, SessionExpired
from libs.common.events.reservation import (
    PaymentCancelled,
    PaymentRequested,
    ReservationConfirmed,
    ReservationExpired,
    ReservationPaymentDeclined,
)
from libs.common.storage.ports import Decision
from libs.common.web.admission import Admission
from services.reservation.domain.problems import (
    AlreadyPaid,
    HoldExpired,
    NotEnoughPoints,
    ReservationNotFound,
)
from services.reservation.domain.reservation import (
    ATTEMPTS_MAX,
    DUTY_GRACE_MS,
    REMEMBERED_MS,
    RESEND_MAX_MS,
    RESEND_MS,
    Attempt,
    PlacedSeat,
    Reservation,
    Step,
    begin_payment,
    called_off,
    cancel,
    completed,
    declined,
    discharged,
    first_answer,
    is_paid,
    owned,
    swept,
)

NOW = 1_800_000_000_000
HOLD_MS = 300_000
DEADLINE_MS = 30_000
SKEW_MS = 2_000
LAPSED_MS = NOW + HOLD_MS + SKEW_MS


def reservation() -> Reservation:
    return Reservation(
        id="r-1",
        schedule=3,
        user=7,
        ticket="ticket-7",
        room=1,
        sequence=40,
        seats=(PlacedSeat(11, 0, 1),),
        capped=False,
        amount=10_000,
        body_digest="digest",
        status="HELD",
        created_ms=NOW,
        updated_ms=NOW,
        expires_ms=NOW + HOLD_MS,
    )


def attempt(key: str = "key-1", digest: str = "digest", at_ms: int = NOW) -> Attempt:
    return Attempt(0, key, digest, began_ms=at_ms, deadline_ms=at_ms + DEADLINE_MS, sent_ms=at_ms)


def begin(known: Reservation, key: str = "key-1", at_ms: int = NOW) -> Decision[Reservation, Step]:
    return begin_payment(known, attempt(key, at_ms=at_ms), len(known.attempts), at_ms, SKEW_MS)


def after(decision: Decision[Reservation, object]) -> Reservation:
    assert decision.state is not None
    return decision.state


def paying() -> Reservation:
    return after(begin(reservation()))


def cancelling() -> Reservation:
    return after(swept(paying(), NOW + DEADLINE_MS, SKEW_MS))


def test_a_payment_begins_an_attempt_and_asks_the_wallet_in_the_same_step() -> None:
    decision = begin(reservation())
    assert (after(decision).status, [a.n for a in after(decision).attempts]) == ("PAYING", [1])
    assert decision.events == [PaymentRequested("r-1", 1, 7, 10_000, NOW)]


def test_the_same_key_joins_its_running_attempt_and_another_one_waits_its_turn() -> None:
    assert begin(paying()).state is None
    with pytest.raises(RequestInProgress):
        begin(paying(), "key-2")


def test_after_a_decline_the_same_key_begins_the_next_attempt() -> None:
    held = after(declined(paying(), 1, NOW, SKEW_MS))
    assert held.status == "HELD"
    assert [a.n for a in after(begin(held)).attempts] == [1, 2]


def test_a_begin_whose_reply_was_lost_finds_its_own_attempt_even_declined() -> None:
    held = after(declined(paying(), 1, NOW, SKEW_MS))
    rerun = begin_payment(held, attempt(), 0, NOW, SKEW_MS)
    assert (rerun.state, rerun.result.reservation.attempts[-1].n) == (None, 1)


def test_a_key_with_another_body_is_refused() -> None:
    with pytest.raises(IdempotencyMismatch):
        begin_payment(paying(), attempt(digest="other"), 1, NOW, SKEW_MS)


def test_a_lapsed_hold_cannot_be_paid_and_one_millisecond_before_it_can() -> None:
    assert begin(reservation(), at_ms=LAPSED_MS - 1).state is not None
    with pytest.raises(HoldExpired):
        begin(reservation(), at_ms=LAPSED_MS)


def test_attempts_are_bounded() -> None:
    tried = replace(reservation(), attempts=tuple(replace(attempt(f"k-{n}"), n=n) for n in range(1, ATTEMPTS_MAX + 1)))
    with pytest.raises(RateLimited):
        begin(tried)


def test_completed_confirms_once_and_owes_the_sale() -> None:
    decision = completed(paying(), 1, NOW + 5)
    confirmed = after(decision)
    assert (confirmed.status, confirmed.owes, confirmed.attempts[0].status) == ("CONFIRMED", "sell", "COMPLETED")
    assert decision.events == [ReservationConfirmed("r-1", 1, 7, "ticket-7", 1, 40, NOW + 5)]
    again = completed(confirmed, 1, NOW + 9)
    assert (again.state, again.events) == (None, ())


@pytest.mark.parametrize("status", ["HELD", "CANCELLED", "EXPIRED"])
def test_a_charge_nobody_waits_for_is_called_off(status: str) -> None:
    late = replace(cancelling(), status=status)  # type: ignore[arg-type]
    decision = completed(late, 1, NOW)
    assert decision.state is None
    assert decision.events == [PaymentCancelled("r-1", 1, 7, 10_000, NOW)]


def test_the_charge_of_an_older_attempt_confirms_nothing() -> None:
    second = after(begin(after(declined(paying(), 1, NOW, SKEW_MS))))
    assert completed(second, 1, NOW).events == [PaymentCancelled("r-1", 1, 7, 10_000, NOW)]
    assert completed(second, 9, NOW).state is None


def test_a_decline_goes_back_to_the_first_expiry_or_ends_when_that_has_passed() -> None:
    held = declined(paying(), 1, NOW + 5, SKEW_MS)
    assert (after(held).status, after(held).expires_ms, after(held).owes) == ("HELD", NOW + HOLD_MS, None)
    assert held.events == [ReservationPaymentDeclined("r-1", 1, 7, NOW + 5)]
    late = declined(paying(), 1, LAPSED_MS, SKEW_MS)
    assert (after(late).status, after(late).owes) == ("EXPIRED", "free")
    assert ReservationExpired("r-1", 1, 7, LAPSED_MS) in late.events


def test_the_decline_of_an_older_attempt_is_ignored() -> None:
    second = after(begin(after(declined(paying(), 1, NOW, SKEW_MS))))
    assert declined(second, 1, NOW, SKEW_MS).state is None


def test_an_overdue_attempt_is_called_off_and_whatever_the_wallet_says_ends_it() -> None:
    decision = swept(paying(), NOW + DEADLINE_MS, SKEW_MS)
    assert (after(decision).status, after(decision).owes) == ("CANCELLING", "free")
    assert decision.events == [PaymentCancelled("r-1", 1, 7, 10_000, NOW + DEADLINE_MS)]
    for ended in (called_off(cancelling(), 1, NOW), declined(cancelling(), 1, NOW, SKEW_MS)):
        assert (after(ended).status, after(ended).attempts[0].status) == ("CANCELLED", "CANCELLED")
    assert called_off(cancelling(), 2, NOW).state is None


def test_void_and_refund_of_what_is_not_being_cancelled_change_nothing() -> None:
    for known in (reservation(), paying(), after(completed(paying(), 1, NOW))):
        assert called_off(known, 1, NOW).state is None


def test_a_charge_that_is_being_called_off_already_asks_nothing_more() -> None:
    decision = completed(cancelling(), 1, NOW + DEADLINE_MS)
    assert (decision.state, decision.events) == (None, ())


def test_a_silent_wallet_is_asked_again_in_quiet_intervals() -> None:
    assert swept(paying(), NOW + RESEND_MS - 1, SKEW_MS).state is None
    again = swept(paying(), NOW + RESEND_MS, SKEW_MS)
    assert again.events == [PaymentRequested("r-1", 1, 7, 10_000, NOW + RESEND_MS)]
    assert swept(after(again), NOW + RESEND_MS, SKEW_MS).state is None  # a second sweeper comes too late

    called = NOW + DEADLINE_MS
    again = swept(cancelling(), called + RESEND_MS, SKEW_MS)
    assert again.events == [PaymentCancelled("r-1", 1, 7, 10_000, called + RESEND_MS)]


def test_the_longer_an_outcome_takes_the_less_often_a_client_is_asked_to_look() -> None:
    running = paying().attempts[-1]
    asked_ms = [running.began_ms + age_ms for age_ms in (0, 3_000, 7_999, 8_000, 20_000, 40_000, 400_000)]
    assert [running.look_again_s(now_ms) for now_ms in asked_ms] == [1, 1, 1, 2, 5, 10, 10]
    assert replace(running, outcome="cancelled").look_again_s(running.began_ms) is None


def test_the_longer_a_wallet_is_silent_the_less_often_it_is_asked() -> None:
    known, called = after(discharged(cancelling(), "free")), NOW + DEADLINE_MS
    asked_ms = []
    for now_ms in range(called, called + 90_000, 500):
        again = swept(known, now_ms, SKEW_MS)
        if again.events:
            known = after(again)
            asked_ms.append(now_ms - called)
            assert known.due_ms == now_ms + min(max(now_ms - called, RESEND_MS), RESEND_MAX_MS)
    assert asked_ms == [5_000, 10_000, 20_000, 40_000, 60_000, 80_000]


def test_a_hold_expires_with_its_seats_and_not_before() -> None:
    assert swept(reservation(), LAPSED_MS - 1, SKEW_MS).state is None
    expired = swept(reservation(), LAPSED_MS, SKEW_MS)
    assert (after(expired).status, after(expired).owes) == ("EXPIRED", "free")


def test_cancelling_ends_a_hold_and_nothing_else() -> None:
    assert after(cancel(reservation(), NOW)).status == "CANCELLED"
    with pytest.raises(RequestInProgress):
        cancel(paying(), NOW)
    with pytest.raises(AlreadyPaid):
        cancel(after(completed(paying(), 1, NOW)), NOW)
    assert cancel(cancelling(), NOW).state is None


def test_a_duty_is_due_until_it_is_done() -> None:
    confirmed = after(completed(paying(), 1, NOW))
    assert confirmed.due_ms == NOW + DUTY_GRACE_MS
    assert discharged(confirmed, "free").state is None
    assert after(discharged(confirmed, "sell")).due_ms is None


def test_the_sweeper_comes_for_the_nearest_of_all_reasons() -> None:
    assert reservation().due_ms == NOW + HOLD_MS
    assert paying().due_ms == NOW + RESEND_MS
    assert replace(paying(), attempts=(replace(attempt(), n=1, deadline_ms=NOW + 100),)).due_ms == NOW + 100


def test_the_first_answer_does_not_change_with_the_reservation() -> None:
    assert first_answer(after(completed(paying(), 1, NOW + 5))).status == "HELD"
    assert first_answer(after(completed(paying(), 1, NOW + 5))).updated_ms == NOW


def test_a_ticket_sees_what_it_made_and_after_its_visit_for_a_day() -> None:
    mine, other = Admission("ticket-7", 1, 40), Admission("ticket-8", 1, 41)
    assert owned(reservation(), mine, NOW, 7) == reservation()
    for admission, user in ((other, 7), (mine, 8)):
        with pytest.raises(NotYours):
            owned(reservation(), admission, NOW, user)
    with pytest.raises(ReservationNotFound):
        owned(None, mine, NOW)
    ended = replace(mine, ended=True)
    assert owned(reservation(), ended, NOW + REMEMBERED_MS) == reservation()
    for known, admission, at_ms in (
        (reservation(), ended, NOW + REMEMBERED_MS + 1),
        (reservation(), replace(other, ended=True), NOW),
        (None, ended, NOW),
    ):
        with pytest.raises(SessionExpired):
            owned(known, admission, at_ms)


class SagaMachine(RuleBasedStateMachine):
    """One reservation, and a wallet that decides every op once. Messages between them are never taken out of the bag,
    so each may arrive in any order and any number of times, whatever happened since."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = NOW
        self.known = reservation()
        self.balance = 0
        self.ledger: dict[int, str] = {}
        self.refunded: set[int] = set()
        self.asked: list[object] = []
        self.answers: list[tuple[str, int]] = []
        self.calls = 0

    def take(self, decision: Decision[Reservation, object]) -> None:
        if decision.state is not None:
            if self.known.is_dead:
                assert decision.state.is_dead, "nothing returns from the dead"
            self.known = decision.state
        self.asked += [told for told in decision.events if isinstance(told, PaymentRequested | PaymentCancelled)]

    def answer(self, n: int) -> None:
        kind = {"pay": "completed", "decline": "declined", "void": "called_off"}[self.ledger[n]]
        self.answers.append(("called_off" if n in self.refunded else kind, n))

    def charged(self) -> list[int]:
        return [n for n, kind in self.ledger.items() if kind == "pay" and n not in self.refunded]

    @rule(key=st.sampled_from(["key-1", "key-2"]), seen_late=st.booleans())
    def pay(self, key: str, seen_late: bool) -> None:
        self.calls += 1
        seen = len(self.known.attempts) - (1 if seen_late and self.known.attempts else 0)
        try:
            self.take(begin_payment(self.known, attempt(key, at_ms=self.now_ms), seen, self.now_ms, SKEW_MS))
        except Problem:
            return

    @rule()
    def user_cancels(self) -> None:
        try:
            self.take(cancel(self.known, self.now_ms))
        except Problem:
            return

    @rule(points=st.sampled_from([4_000, 10_000]))
    def user_charges(self, points: int) -> None:
        self.balance += points

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def wallet_hears(self, data: st.DataObject) -> None:
        self.wallet_decides(data.draw(st.sampled_from(self.asked)))

    def wallet_decides(self, asked: object) -> None:
        assert isinstance(asked, PaymentRequested | PaymentCancelled)
        n = asked.attempt
        if isinstance(asked, PaymentRequested):
            if n not in self.ledger:
                self.ledger[n] = "pay" if self.balance >= asked.amount else "decline"
                self.balance -= asked.amount if self.ledger[n] == "pay" else 0
        elif self.ledger.setdefault(n, "void") == "pay" and n not in self.refunded:
            self.refunded.add(n)
            self.balance += asked.amount
        self.answer(n)

    @precondition(lambda self: self.answers)
    @rule(data=st.data())
    def reservation_hears(self, data: st.DataObject) -> None:
        self.hear(*data.draw(st.sampled_from(self.answers)))

    def hear(self, kind: str, n: int) -> None:
        before = self.known.status
        if kind == "completed":
            self.take(completed(self.known, n, self.now_ms))
        elif kind == "declined":
            self.take(declined(self.known, n, self.now_ms, SKEW_MS))
        else:
            self.take(called_off(self.known, n, self.now_ms))
        if before != "CONFIRMED" and self.known.status == "CONFIRMED":
            assert (kind, self.known.attempts[-1].n) == ("completed", n), "confirmed by its own charge only"

    @rule(by_ms=st.sampled_from([0, RESEND_MS, DEADLINE_MS, HOLD_MS]))
    def time_passes_and_sweeps(self, by_ms: int) -> None:
        self.now_ms += by_ms
        self.take(swept(self.known, self.now_ms, SKEW_MS))

    @invariant()
    def at_most_one_charge_stands(self) -> None:
        assert len(self.charged()) <= 1

    @invariant()
    def a_confirmed_reservation_is_paid_for_by_its_own_attempt(self) -> None:
        if self.known.status == "CONFIRMED":
            assert self.charged() == [self.known.attempts[-1].n]
            assert is_paid(self.known, len(self.known.attempts))

    def teardown(self) -> None:
        """Once everything has arrived and time has done its part, a charge stands exactly if the seats are sold."""
        for _ in range(4):
            self.now_ms += HOLD_MS + SKEW_MS
            self.take(swept(self.known, self.now_ms, SKEW_MS))
            for asked in list(self.asked):
                self.wallet_decides(asked)
            for kind, n in list(self.answers):
                self.hear(kind, n)
        assert self.known.status in ("CONFIRMED", "CANCELLED", "EXPIRED")
        assert bool(self.charged()) == (self.known.status == "CONFIRMED")


TestSagaMachine = SagaMachine.TestCase
TestSagaMachine.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


def test_the_outcome_a_caller_is_told() -> None:
    assert not is_paid(paying(), 1)
    assert is_paid(after(completed(paying(), 1, NOW)), 1)
    with pytest.raises(NotEnoughPoints):
        is_paid(after(declined(paying(), 1, NOW, SKEW_MS)), 1)
    with pytest.raises(HoldExpired):
        is_paid(cancelling(), 1)
    assert not is_paid(reservation(), 1)  # woken by an older outcome, before the attempt was seen
