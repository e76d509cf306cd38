"""The API as a state machine beside a model of it that fits on two pages: what everybody owns, and what they were told.

The machine draws calls in any order and with any mistakes; the model says what each must answer, and after every call
what is stored. One world is the whole product in one loop on virtual time; the other one real processes.
"""

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from libs.common.testing.app_client import Answered
from tests.buyer import SEAT_PRICE, Buyer, Caller
from tests.fuzz.effort import TRIED

SEATS, SEATS_EACH_MAX = 12, 8
BUYERS = 3
HOLD_S = 20
EDGE_S = 3.0
"""Nothing is asked so close to the end of a hold, where either answer is right."""

SHOWN_WITHIN_S = 0.3

SUITE = "steps of the model"


class World(Protocol):
    """Where the machine plays: a schedule of its own with SEATS seats, and BUYERS users without a wallet."""

    caller: Caller
    schedule: int
    first_user: int

    def run(self, call: Coroutine[Any, Any, Any]) -> Any: ...

    def now_s(self) -> float: ...

    def close(self) -> None: ...


class WorldInTime(World, Protocol):
    """A world whose clock the machine moves."""

    def pass_time(self, seconds: float) -> None: ...


@dataclass(slots=True)
class Owned:
    """A reservation as the model knows it."""

    id: str
    user: int
    seats: list[int]
    status: str
    made_s: float

    @property
    def amount(self) -> int:
        return len(self.seats) * SEAT_PRICE

    @property
    def is_live(self) -> bool:
        return self.status in ("HELD", "CONFIRMED")


@dataclass(frozen=True, slots=True)
class Done:
    """A write that was carried out under a key, and its answer."""

    user: int
    method: str
    path: str
    body: dict[str, Any]
    key: str
    status: int
    told: dict[str, Any]


numbers = st.integers(0, BUYERS - 1)
picks = st.integers(0, 10**6)


class Machine(RuleBasedStateMachine):
    """Subclasses say in which world."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.balances: dict[int, int] = {}
        self.owned: list[Owned] = []
        self.done: list[Done] = []
        self.keys = 0
        self.tickets: list[tuple[Buyer, int]] = []

    def teardown(self) -> None:
        self.world.close()

    # What buyers do.

    @rule(number=numbers, point=st.sampled_from((1, SEAT_PRICE, 3 * SEAT_PRICE, 10**9)))
    def charge(self, number: int, point: int) -> None:
        user = self._user(number)
        reply = self._write(user, "PATCH", "/users/charge/point", {"userId": user, "point": point})
        self.balances[user] = self.balances.get(user, 0) + point
        assert (reply.status, reply.json["amount"]) == (200, self.balances[user])

    @rule(number=numbers, seats=st.lists(st.integers(1, SEATS), min_size=1, max_size=4, unique=True))
    def hold(self, number: int, seats: list[int]) -> None:
        user = self._user(number)
        body = {"userId": user, "concertScheduleId": self.world.schedule, "seatIds": seats}
        reply = self._write(user, "POST", "/concert/reservation", body)
        expected = set()
        if self._taken() & set(seats):
            expected.add("SEAT_TAKEN")
        if sum(len(one.seats) for one in self.owned if one.user == user and one.is_live) + len(seats) > SEATS_EACH_MAX:
            expected.add("TOO_MANY_SEATS")
        if expected:
            assert reply.code in expected, reply.body
            return
        assert (reply.status, reply.json["status"]) == (201, "HELD"), reply.body
        assert reply.json["amount"] == len(seats) * SEAT_PRICE
        self.owned.append(Owned(reply.json["id"], user, seats, "HELD", self.world.now_s()))

    @precondition(lambda self: self.owned)
    @rule(pick=picks, by=st.none() | numbers)
    def pay(self, pick: int, by: int | None) -> None:
        one = self._picked(pick)
        user = one.user if by is None else self._user(by)
        body = {"userId": user, "reservationId": one.id, "token": "x"}
        reply = self._write(user, "POST", "/payment", body)
        if user != one.user:
            assert reply.code == "NOT_YOURS", reply.body
        elif one.status == "CONFIRMED":
            assert (reply.status, reply.json["status"]) == (200, "COMPLETED"), reply.body
        elif one.status != "HELD":
            assert reply.code == "HOLD_EXPIRED", reply.body
        elif self.balances.get(user, 0) < one.amount:
            assert reply.code == "NOT_ENOUGH_POINTS", reply.body
        else:
            assert (reply.status, reply.json["amount"]) == (200, one.amount), reply.body
            self.balances[user] -= one.amount
            one.status = "CONFIRMED"

    @precondition(lambda self: self.owned)
    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        one = self._picked(pick)
        reply = self.world.run(self._buyer(one.user).cancel(one.id))
        if one.status == "CONFIRMED":
            assert reply.code == "ALREADY_PAID", reply.body
            return
        one.status = "CANCELLED" if one.status == "HELD" else one.status
        assert (reply.status, reply.json["status"]) == (200, one.status), reply.body

    @precondition(lambda self: self.done)
    @rule(pick=picks)
    def send_again(self, pick: int) -> None:
        done = self.done[pick % len(self.done)]
        again = self._send(done.user, done.method, done.path, done.body, done.key)
        assert (again.status, again.json) == (done.status, done.told)
        assert again.headers.get("idempotent-replayed") == "true"

    @precondition(lambda self: self.done)
    @rule(pick=picks)
    def send_another_under_its_key(self, pick: int) -> None:
        done = self.done[pick % len(self.done)]
        refused = self._send(done.user, done.method, done.path, {**done.body, "other": 1}, done.key)
        assert refused.status == 422, (done, refused)
        assert refused.code == "IDEMPOTENCY_MISMATCH"

    # What people in the line do.

    @precondition(lambda self: len(self.tickets) < BUYERS)
    @rule(number=numbers)
    def join(self, number: int) -> None:
        newcomer = Buyer(self.world.caller, self._user(number))
        reply = self.world.run(newcomer.join())
        assert reply.status == 201
        self.tickets.append((newcomer, reply.json["position"]))

    @precondition(lambda self: self.tickets)
    @rule(pick=picks)
    def ask_for_the_place(self, pick: int) -> None:
        where = pick % len(self.tickets)
        waiting, before = self.tickets[where]
        position = self.world.run(waiting.position())
        assert position <= before, "a position grew"
        self.tickets[where] = (waiting, position)

    @precondition(lambda self: self.tickets)
    @rule(pick=picks)
    def leave(self, pick: int) -> None:
        gone, _ = self.tickets.pop(pick % len(self.tickets))
        assert self.world.run(gone.leave()).status == 204
        assert self.world.run(gone.schedules_reply()).code == "SESSION_EXPIRED"
        assert self.world.run(gone.hold(self.world.schedule, [1])).code == "SESSION_EXPIRED"

    # What must hold, whatever they did.

    @invariant()
    def everybody_has_what_the_model_says(self) -> None:
        TRIED[SUITE] += 1
        for user, balance in self.balances.items():
            assert self.world.run(self._buyer(user).balance()) == balance
        for one in self.owned[-BUYERS:]:
            assert self.world.run(self._buyer(one.user).status_of(one.id)) == one.status

    def _user(self, number: int) -> int:
        return self.world.first_user + number

    def _buyer(self, user: int) -> Buyer:
        return Buyer(self.world.caller, user)

    def _picked(self, pick: int) -> Owned:
        return self.owned[pick % len(self.owned)]

    def _taken(self) -> set[int]:
        return {seat for one in self.owned if one.is_live for seat in one.seats}

    def _write(self, user: int, method: str, path: str, body: dict[str, Any]) -> Answered:
        """Send under a key of its own; remembered when it was carried out."""
        self.keys += 1
        key = f"key-{self.keys}"
        reply = self._send(user, method, path, body, key)
        if reply.status in (200, 201):
            self.done.append(Done(user, method, path, body, key, reply.status, reply.json))
        return reply

    def _send(self, user: int, method: str, path: str, body: dict[str, Any], key: str) -> Answered:
        answered: Answered = self.world.run(self._buyer(user).call(method, path, body, key=key))
        return answered


class MachineInTime(Machine):
    """The same where time passes only when the machine says so: holds run out, and what is shown can be waited for."""

    world: WorldInTime

    @rule(seconds=st.sampled_from((1, 4, 9, 25)))
    def time_passes(self, seconds: int) -> None:
        self._pass_time(seconds)
        self.tickets.clear()  # an offer that lapsed and a visit that ended have tests of their own

    @invariant()
    def what_is_free_is_shown(self) -> None:
        self._pass_time(SHOWN_WITHIN_S)
        shown = set(self.world.run(self._buyer(self._user(0)).seats(self.world.schedule)))
        assert shown & set(range(1, SEATS + 1)) == set(range(1, SEATS + 1)) - self._taken()

    def _pass_time(self, seconds: float) -> None:
        """Let time pass, and more where it would stop too close to the end of a hold."""
        self.world.pass_time(seconds)
        while any(abs(one.made_s + HOLD_S - self.world.now_s()) < EDGE_S for one in self.owned if one.status == "HELD"):
            self.world.pass_time(EDGE_S)
        for one in self.owned:
            if one.status == "HELD" and one.made_s + HOLD_S < self.world.now_s():
                one.status = "EXPIRED"
