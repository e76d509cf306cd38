"""What people do, step by step. One visitor is one person at a time; the executor gives it the next iteration.

To add a scenario: a subclass of `Visitor` with an `iteration`, its name in `Scenario`, and a row in `VISITORS`.
`call` sends and counts, `think` waits as a person would. A request is timed twice: from when it was sent, and from
when it was meant to be; the two differ where the generator was late, and then the second is what a person would have
felt.
"""

import random
import time
from collections import Counter
from typing import Any

import gevent
import orjson
from locust import FastHttpUser
from locust.env import Environment

from loadtest.answers import is_success, meaning
from loadtest.plan import Plan
from loadtest.tally import Drain

API = "/api/v1"
TICKET = "X-Waiting-Token"

Answer = tuple[int, Any]


class GaveUp(Exception):
    """The iteration is over before its end; why has been counted."""


class Visitor(FastHttpUser):
    """One person. What it sees is counted in the drain of the process."""

    abstract = True
    network_timeout = 20.0
    connection_timeout = 5.0
    concurrency = 1

    def __init__(self, environment: Environment, plan: Plan, drain: Drain) -> None:
        self.host = environment.host
        super().__init__(environment)
        self.plan = plan
        self.drain = drain
        self.due = 0.0
        """When the next request is meant to be sent, by `time.perf_counter`."""

    def call(self, step: str, method: str, path: str, ticket: str = "", body: Any = None) -> Answer:
        """Status (0: no answer) and body. Anything but a 2xx is counted by its kind."""
        headers = {"Content-Type": "application/json"}
        if ticket:
            headers[TICKET] = ticket
        data = None if body is None else orjson.dumps(body).decode()
        sent = time.perf_counter()
        reply = self.client.request(method, API + path, name=step, data=data, headers=headers)
        answered = time.perf_counter()
        self.drain.tally.request(step, (answered - sent) * 1000, (answered - min(self.due, sent)) * 1000)
        self.due = answered
        status = reply.status_code
        if is_success(status):
            return status, orjson.loads(reply.content) if reply.content else None
        self._count(step, status, reply.content if status else type(getattr(reply, "error", None)).__name__)
        return status, None

    def _count(self, step: str, status: int, said: Any) -> None:
        if not status:
            self.drain.tally.failures[f"{step}: no answer ({said})"] += 1
            return
        try:
            code = orjson.loads(said)["code"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            code = None
        kinds: Counter[str] = getattr(self.drain.tally, meaning(status, code))
        kinds[f"{step}: {status} {code or 'no problem document'}"] += 1

    def expect(self, step: str, method: str, path: str, ticket: str = "", body: Any = None) -> Any:
        """The body of a 2xx. Raises GaveUp."""
        status, answer = self.call(step, method, path, ticket, body)
        if not is_success(status):
            raise GaveUp
        return answer

    def think(self, low_s: float, high_s: float) -> None:
        self.pause(random.uniform(low_s, high_s))  # noqa: S311 (nobody guards anything with it)

    def pause(self, seconds: float) -> None:
        self.due += seconds
        gevent.sleep(max(0.0, self.due - time.perf_counter()))


class Buyer(Visitor):
    """Looks at schedules and seats, holds one or two, tops up, pays. The report's booking scenario."""

    think_s = (0.5, 3.0)
    tries_max = 1

    def iteration(self) -> None:
        self.buy(self.plan.token)

    def buy(self, ticket: str) -> None:
        user = random.randint(1, self.plan.wallets)  # noqa: S311 (the same)
        reservation = self.hold(user, ticket)
        self.think(*self.think_s)
        self.expect("wallet", "GET", f"/users/{user}/wallet")
        self.think(*self.think_s)
        self.expect("charge", "PATCH", "/users/charge/point", ticket, {"userId": user, "point": 100})
        self.think(*self.think_s)
        paying = {"userId": user, "reservationId": reservation, "token": ticket}
        status, _ = self.call("pay", "POST", "/payment", ticket, paying)
        if status == 202:
            self.drain.tally.outcomes["pay: 202 not settled yet"] += 1
        self.think(*self.think_s)

    def hold(self, user: int, ticket: str) -> str:
        """The id of a reservation. Raises GaveUp when there is nothing left, or others were always faster."""
        for _ in range(self.tries_max):
            schedules = self.expect("schedules", "GET", "/concert/1/available-schedules", ticket)["concertSchedules"]
            if not schedules:
                self.drain.tally.outcomes["schedules: sold out"] += 1
                raise GaveUp
            self.think(*self.think_s)
            schedule = random.choice(schedules)["id"]  # noqa: S311 (the same)
            found = self.expect("seats", "GET", f"/concert/{schedule}/available-seats", ticket)["concertSeatInfo"]
            if not found:
                self.drain.tally.outcomes["seats: sold out"] += 1
                continue
            self.think(*self.think_s)
            seats = found["concertSeat"]
            wanted = random.sample(seats, min(random.randint(1, 2), len(seats)))  # noqa: S311 (the same)
            asked = {
                "userId": user,
                "concertScheduleId": schedule,
                "seatIds": [seat["id"] for seat in wanted],
                "dateTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            }
            status, held = self.call("hold", "POST", "/concert/reservation", ticket, asked)
            if status == 201:
                return str(held["id"])
            if status != 409:
                break
        raise GaveUp


class Waiter(Visitor):
    """Joins the line, asks as often as it is told to, or as the plan says, comes in, looks around and leaves."""

    visit_s = (5.0, 15.0)

    def iteration(self) -> None:
        ticket = self.come_in()
        self.think(*self.visit_s)
        self.expect("leave", "DELETE", "/token", ticket)

    def come_in(self) -> str:
        joined = self.expect("join", "POST", "/token/create")
        ticket = str(joined["uuid"])
        while joined["position"] > 0:
            told_s = joined["pollAfterMs"] / 1000 * random.uniform(0.9, 1.0)  # noqa: S311 (the same)
            self.pause(self.plan.polls_every_s or told_s)
            joined = self.expect("poll", "GET", "/token", ticket)["waitingQueueWithPositionResult"]
        return ticket


class OnSaleBuyer(Buyer, Waiter):
    """Waits for the opening, comes in with a ticket, and buys in a hurry; takes another seat when one is gone."""

    think_s = (0.2, 1.0)
    tries_max = 4

    def iteration(self) -> None:
        ticket = self.come_in()
        try:
            self.buy(ticket)
        except GaveUp:
            self.call("leave", "DELETE", "/token", ticket)
            raise


Scenario = Buyer | Waiter
"""A visitor who knows what to do."""

VISITORS: dict[str, type[Scenario]] = {"booking": Buyer, "queue": Waiter, "onsale": OnSaleBuyer}
