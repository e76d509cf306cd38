"""People who wait before a small room while the system breaks, and watch their places.

Each joins, asks where it stands until it is inside, stays a moment, buys a seat of its own and is out. What a person
is told must be true of a line that only moves forward: a place that was told at some time says how far the line had
come, and no answer to a later question may be from before that, whoever asks. So nobody moves back, and those behind
are never ahead.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import aiohttp

from libs.common.testing.app_client import Answered
from loadtest.audit.line import place_of
from tests.buyer import Buyer, Caller
from tests.e2e.conftest import now_ms
from tests.e2e.sale import Purchase, await_outcome, insist, is_not_now

ASK_EVERY_S = 0.4
COME_IN_MAX_MS = 900_000
"""Longer than all faults of an experiment take: everybody is let in after the last of them."""

STAY_S = (0.2, 1.5)
COME_WITHIN_S = 10.0
"""Half of all people are there from the start; the others come by and by, for so long."""

NOT_LATE_MS = 250
"""A visit that is near its end when a request is sent may be over by the time it arrives."""


@dataclass
class Line:
    """Seat n of `schedule` is for the n-th person. `purchases` and `ran_out` (visits that ended before anything was
    held) add up to everybody once `run` returns. `session_ms` is the length of a visit."""

    caller: Caller
    users: Sequence[int]
    schedule: int
    chance: random.Random
    session_ms: int
    purchases: list[Purchase] = field(default_factory=list)
    ran_out: int = 0
    inside: int = 0
    polls: int = 0
    _furthest: int = 0

    async def run(self) -> None:
        """Until everybody has been inside."""
        async with asyncio.TaskGroup() as group:
            for place, user in enumerate(self.users):
                late_s = self.chance.uniform(0, COME_WITHIN_S) if place % 2 else 0.0
                stay_s = self.chance.uniform(*STAY_S)
                group.create_task(self._visit(Buyer(self.caller, user=user), place + 1, late_s, stay_s))

    async def is_over(self) -> bool:
        """Whether everybody who has paid for a seat is out again, as the gateway has it."""
        paid = [purchase.buyer for purchase in self.purchases if purchase.paid]
        replies = await asyncio.gather(*(person.call("GET", "/token") for person in paid))
        return all(reply.json["waitingQueueWithPositionResult"]["state"] == "ENDED" for reply in replies)

    async def _visit(self, person: Buyer, seat: int, late_s: float, stay_s: float) -> None:
        await asyncio.sleep(late_s)
        await self._join(person)
        ends_ms = await self._come_in(person)
        if ends_ms is not None:
            self.inside += 1
            await asyncio.sleep(stay_s)
        if ends_ms is None or not await self._buy(person, seat, ends_ms):
            self.ran_out += 1

    async def _join(self, person: Buyer) -> None:
        key = {"Idempotency-Key": f"join-{person.user}"}
        joined = await insist(
            lambda: person.caller.call("POST", "/api/v1/token/create", {"userId": person.user}, headers=key), {201}
        )
        person.token = joined.json["uuid"]

    async def _come_in(self, person: Buyer) -> int | None:
        """When the visit ends, epoch ms; None when all of it passed before the word that it began got through."""
        place = place_of(person.token)
        assert place is not None
        came_ms = waited_ms = now_ms()
        while (sent_ms := now_ms()) < came_ms + COME_IN_MAX_MS:
            told = await self._ask(person, place[1])
            state = told["state"] if told else ""
            if told and state == "INSIDE":
                return round(datetime.fromisoformat(told["expiresAt"]).timestamp() * 1000)
            if state == "ENDED":
                assert now_ms() - waited_ms >= self.session_ms, f"user {person.user} was waiting, and is out: {told}"
                return None
            if state == "WAITING":
                waited_ms = sent_ms
            await asyncio.sleep(ASK_EVERY_S)
        raise AssertionError(f"user {person.user} was not let in within {COME_IN_MAX_MS // 1000} s")

    async def _ask(self, person: Buyer, sequence: int) -> dict[str, Any] | None:
        """What the person is told; None when nobody answers for now."""
        before = self._furthest
        try:
            reply = await person.call("GET", "/token")
        except (aiohttp.ClientError, TimeoutError):
            return None
        if is_not_now(reply):
            return None
        assert reply.status == 200, reply.body
        self.polls += 1
        told: dict[str, Any] = reply.json["waitingQueueWithPositionResult"]
        position = told["position"]
        # At 0 it is only known that the line has come this far.
        come = sequence - position if position else max(sequence, before)
        assert come >= before, f"the line was at {before}, and {sequence} in line is then told {position}"
        self._furthest = max(self._furthest, come)
        return told

    async def _buy(self, person: Buyer, seat: int, ends_ms: int) -> bool:
        """True when a seat was held: then what became of it is among the purchases."""
        key = f"line-{person.user}"
        held = await insist(lambda: person.hold(self.schedule, [seat], key=f"hold-{key}"), {201, 403})
        if _is_over(held, ends_ms):
            return False
        purchase = Purchase(person, self.schedule, seat, held.json["id"])
        self.purchases.append(purchase)
        paid = await insist(lambda: person.pay(purchase.reservation, key=f"pay-{key}"), {200, 202, 403, 409})
        if paid.status == 202:
            await await_outcome(purchase)
        elif not _is_over(paid, ends_ms):
            purchase.paid = paid.status == 200
        return True


def _is_over(answer: Answered, ends_ms: int) -> bool:
    """Whether this refuses a visit that is over. One that is not over may not be told so."""
    if answer.status != 403:
        return False
    assert answer.code == "SESSION_EXPIRED", answer.body
    assert now_ms() >= ends_ms - NOT_LATE_MS, f"told over {ends_ms - now_ms()} ms before its end"
    return True
