"""The crowd: people who join, wait, come late, leave, hold, hesitate, pay twice, run out of points, and try what they
must not. Every choice comes from the seed.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

from libs.common.clock import Clock
from libs.common.testing.app_client import Answered
from tests.buyer import SEAT_PRICE, Buyer
from tests.simulation.clients import Client, Lost

SCHEDULES: dict[int, list[list[int]]] = {
    1: [[1, 2, 3, 4, 5, 6]],
    2: [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11]],
    3: [[1, 2, 3, 4], [5, 6, 7], [8, 9, 10, 11, 12, 13]],
}
"""Schedules by their sections of seats; see `world.BLOCK_SEATS_MAX` for how they fall into blocks."""

POLLS_MAX = 400
INSIDE_TRIES = 4


class Shopper:
    """One visit of one user."""

    def __init__(
        self, client: Client, user: int, clock: Clock, chance: random.Random, patience_s: dict[str, float]
    ) -> None:
        self.user = user
        self._client = client
        self._buyer = Buyer(client, user, token="")
        self._clock = clock
        self._chance = chance
        self._patience_s = patience_s
        self._keys = 0

    async def visit(self) -> None:
        """From the door to the ticket, or to giving up somewhere on the way."""
        try:
            if self._chance.random() < 0.5:
                await self._top_up(self._chance.choice((1, 2, 4)) * SEAT_PRICE)
            if not await self._join() or not await self._wait():
                return
            await self._shop()
        except Lost:
            return

    def _key(self) -> str:
        self._keys += 1
        return f"{self._chance.getrandbits(32):08x}-{self._keys}"

    async def _pause(self, seconds: float) -> None:
        await self._clock.sleep(seconds)

    async def _surely(self, send: Callable[[], Awaitable[Answered]]) -> Answered | None:
        return await self._client.surely(send, self._pause)

    async def _top_up(self, points: int) -> None:
        key = self._key() if self._chance.random() < 0.8 else None
        if key is None:
            await self._buyer.charge(points)
            return
        if self._chance.random() < 0.3:
            await self._at_once(*(self._buyer.charge(points, key) for _ in range(3)))
        await self._surely(lambda: self._buyer.charge(points, key))

    async def _join(self) -> bool:
        if self._chance.random() < 0.2:
            return (await self._buyer.join()).status == 201
        key, body = self._key(), {"userId": self.user, "room": 1}

        async def send() -> Answered:
            return await self._client.call("POST", "/api/v1/token/create", body, headers={"Idempotency-Key": key})

        if self._chance.random() < 0.3:
            await self._at_once(send(), send())
        reply = await self._surely(send)
        if reply is None or reply.status != 201:
            return False
        self._buyer.token = reply.json["uuid"]
        return True

    async def _wait(self) -> bool:
        """Poll until inside; True when that came true."""
        is_absent = self._chance.random() < 0.2
        leaves = self._chance.random() < 0.08
        for _ in range(POLLS_MAX):
            reply = await self._polled()
            if reply is None or reply.status != 200:
                await self._pause(1.0)
                continue
            place = reply.json["waitingQueueWithPositionResult"]
            if place["state"] != "WAITING":
                return bool(place["state"] == "INSIDE")
            if leaves and self._chance.random() < 0.2:
                await self._surely(self._buyer.leave)
                return False
            if self._chance.random() < 0.05:  # perhaps nobody looks at tickets
                key = self._key()
                await self._surely(lambda: self._buyer.hold(1, [1], key))  # noqa: B023  awaited within this turn
            pause_s = place["pollAfterMs"] / 1000 * self._chance.uniform(0.7, 1.3)
            if is_absent and place["position"] <= 4:
                is_absent = False
                pause_s += self._patience_s["claim_window_s"] * self._chance.uniform(0.8, 2.5)
            await self._pause(pause_s)
        return False

    async def _polled(self) -> Answered | None:
        try:
            return await self._buyer.call("GET", "/token")
        except Lost:
            return None

    async def _grab(self) -> None:
        """Hold more and more of one schedule, at once and one after the other."""
        schedule = self._chance.choice(sorted(SCHEDULES))
        everywhere = [seat for section in SCHEDULES[schedule] for seat in section]
        for _ in range(3):
            wanted = [self._chance.sample(everywhere, 2) for _ in range(2)]
            keys = [self._key() for _ in wanted]
            await self._at_once(
                *(self._buyer.hold(schedule, seats, key) for seats, key in zip(wanted, keys, strict=True))
            )
            await self._pause(self._chance.uniform(0.1, self._patience_s["hold_s"] / 2))

    async def _shop(self) -> None:
        if self._chance.random() < 0.15:
            await self._grab()
        if self._chance.random() < 0.15:  # went for a coffee
            await self._pause(self._patience_s["session_s"] * self._chance.uniform(0.3, 1.2))
        for _ in range(INSIDE_TRIES):
            held = await self._hold()
            if held is None:
                await self._pause(self._chance.uniform(0.1, 3.0))
                continue
            if self._chance.random() < 0.1:
                await self._meddle()
            await self._after_hold(held)
            if self._chance.random() < 0.7:
                break
        if self._chance.random() < 0.4:
            await self._surely(self._buyer.leave)

    async def _hold(self) -> str | None:
        """The id of a reservation, or None."""
        schedule = self._chance.choice((1, 1, 2, 2, 3))
        if self._chance.random() < 0.3:
            await self._surely(lambda: self._buyer.call("GET", f"/concert/{schedule}/available-seats"))
        everywhere = [seat for section in SCHEDULES[schedule] for seat in section]
        seats = self._chance.sample(everywhere, min(len(everywhere), self._chance.choice((1, 1, 2, 2, 3, 4))))
        if self._chance.random() < 0.2:
            once = await self._buyer.hold(schedule, seats)
            return str(once.json["id"]) if once.status == 201 else None
        key = self._key()
        if self._chance.random() < 0.3:
            await self._at_once(*(self._buyer.hold(schedule, seats, key) for _ in range(self._chance.choice((2, 3)))))
        reply = await self._surely(lambda: self._buyer.hold(schedule, seats, key))
        if reply is None or reply.status != 201:
            return None
        if self._chance.random() < 0.15:  # a late copy of the request, when other things have happened meanwhile
            self._later(lambda: self._buyer.hold(schedule, seats, key), self._chance.uniform(1.0, 90.0))
        return str(reply.json["id"])

    async def _after_hold(self, held: str) -> None:
        chance = self._chance.random()
        if chance < 0.12:
            return
        if chance < 0.22:
            await self._surely(lambda: self._buyer.cancel(held))
            return
        if chance < 0.30:
            await self._pay_at_the_last_moment(held)
            return
        if chance < 0.45:
            await self._pause(self._patience_s["hold_s"] * self._chance.uniform(0.7, 1.15))
        await self._pay(held)

    async def _pay_at_the_last_moment(self, held: str) -> None:
        """Pay when the hold is about to lapse, and at the same time hold others, as if it had."""
        reply = await self._surely(lambda: self._buyer.reservation(held))
        if reply is None or reply.status != 200:
            return
        schedule, seats = reply.json["concertScheduleId"], reply.json["seatIds"]
        others = [n for section in SCHEDULES[schedule] for n in section if n not in seats]
        wanted = self._chance.sample(others, min(4, len(others)))
        key, spread_s = self._key(), self._patience_s["clock_skew_s"] + 1
        await self._pause(max(0.0, self._patience_s["hold_s"] - 1))

        async def hold() -> None:
            for _ in range(8):
                await self._pause(self._chance.uniform(0.2, spread_s / 3))
                await self._buyer.hold(schedule, wanted)

        async def pay() -> None:
            await self._pause(self._chance.uniform(0, spread_s))
            await self._buyer.pay(held, key)

        await self._at_once(hold(), pay())

    async def _pay(self, held: str) -> None:
        key = self._key() if self._chance.random() < 0.8 else None
        if self._chance.random() < 0.25:
            keys = [self._key() for _ in range(3)] + ([key] if key else [])
            await self._at_once(*(self._buyer.pay(held, keys[n % len(keys)]) for n in range(20)))
        reply = await self._surely(lambda: self._buyer.pay(held, key))
        for _ in range(3):
            if reply is None or reply.status != 402:
                break
            if self._chance.random() < 0.25:
                return
            await self._top_up(self._chance.choice((1, 2, 4)) * SEAT_PRICE)
            reply = await self._surely(lambda: self._buyer.pay(held, key))
        if reply is not None and reply.status == 202:
            await self._look_until_settled(held)
        if self._chance.random() < 0.2:
            await self._surely(lambda: self._buyer.pay(held, key))
        if self._chance.random() < 0.1:
            await self._surely(lambda: self._buyer.cancel(held))

    async def _look_until_settled(self, held: str) -> None:
        for _ in range(20):
            reply = await self._surely(lambda: self._buyer.reservation(held))
            if reply is None or reply.status != 200 or reply.json["status"] not in ("PAYING", "CANCELLING"):
                return
            await self._pause(self._chance.uniform(1.0, 5.0))

    async def _meddle(self) -> None:
        """Try things with somebody else's reservation; the watch knows whose it is."""
        others = sorted(id_ for id_, (user, _) in self._client.holders.items() if user != self.user)
        if not others:
            return
        foreign = self._chance.choice(others)
        await self._surely(lambda: self._buyer.reservation(foreign))
        await self._surely(lambda: self._buyer.pay(foreign, None))
        await self._surely(lambda: self._buyer.cancel(foreign))

    async def _at_once(self, *calls: Any) -> None:
        await asyncio.gather(*calls, return_exceptions=True)

    def _later(self, send: Callable[[], Awaitable[Answered]], pause_s: float) -> None:
        async def wait_and_send() -> None:
            await self._pause(pause_s)
            try:
                await send()
            except Lost:
                return

        self._client.detach(wait_and_send())
