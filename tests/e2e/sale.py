"""A sale under way while something is broken: buyers who insist as an app would, and the account of it afterwards.

Each buyer holds a seat, pays for it and goes on to the next, with keys of its own; what is refused for now or lost on
the way is sent again under the same key. Nobody ever wants a seat that another buyer wants: a seat that is refused is
a seat that was sold twice, or lost.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from libs.common.testing.app_client import Answered
from libs.common.testing.eventually import eventually
from tests.buyer import SEAT_PRICE, Buyer, Caller

SEATS_PER_SCHEDULE = 50
SEATS_EACH_MAX = 6
"""Of a schedule: under the cap of 8, with room for eight buyers."""

PACE_S = 0.2
"""Between two purchases of a buyer, so that the seats outlast what is done to the system meanwhile."""

PAUSE_S = 0.1
INSIST_S = 120.0
"""Of a buyer: longer than anything is stopped for, and than what comes to rest after it."""

NOT_YET = Answered(503, {}, b"")
FINAL = frozenset({"CONFIRMED", "CANCELLED", "EXPIRED", "REFUNDED"})


@dataclass(slots=True)
class Purchase:
    """One attempt to buy a seat; `reservation` is known as soon as it was held."""

    buyer: Buyer
    schedule: int
    seat: int
    reservation: str
    paid: bool = False


@dataclass
class Sale:
    """`answers` has every answer to a payment and when it came (monotonic seconds)."""

    caller: Caller
    users: Sequence[int]
    schedules: Sequence[int]
    purchases: list[Purchase] = field(default_factory=list)
    answers: list[tuple[float, Answered]] = field(default_factory=list)

    def __post_init__(self) -> None:
        assert len(self.users) * SEATS_EACH_MAX <= SEATS_PER_SCHEDULE

    async def run(self, until: asyncio.Event) -> None:
        """Buy until the event is set; every purchase that was begun is brought to its end."""
        balances = await asyncio.gather(*(buyer.balance() for buyer in self._buyers()))
        self._before = dict(zip(self.users, balances, strict=True))
        async with asyncio.TaskGroup() as group:
            for place, buyer in enumerate(self._buyers()):
                group.create_task(self._buy_all(buyer, place, until))

    async def reach(self, count: int, within_s: float = 30.0) -> None:
        """Wait until so many more purchases are paid for."""
        goal = self.paid_count + count
        await eventually(lambda: self.paid_count >= goal, within_s, f"{count} more purchases")

    @property
    def paid_count(self) -> int:
        return sum(purchase.paid for purchase in self.purchases)

    async def audit(self, within_s: float) -> None:
        """Everything settles within the time; then each seat, each point and each ticket is accounted for once.

        Purchases that a test made beside the sale may be added to `purchases` before.
        """
        statuses: dict[str, str] = {}

        async def all_are_final() -> bool:
            for purchase in self.purchases:
                if statuses.get(purchase.reservation) not in FINAL:
                    statuses[purchase.reservation] = await purchase.buyer.status_of(purchase.reservation)
            return set(statuses.values()) <= FINAL

        await eventually(all_are_final, within_s, "every reservation in a final state")
        confirmed = [each for each in self.purchases if statuses[each.reservation] == "CONFIRMED"]
        assert {each.reservation for each in self.purchases if each.paid} <= {each.reservation for each in confirmed}
        assert len({(each.schedule, each.seat) for each in confirmed}) == len(confirmed)
        for user, buyer in {each.buyer.user: each.buyer for each in self.purchases}.items():
            bought = {each.reservation for each in confirmed if each.buyer.user == user}
            assert await self._net_charges(buyer) == dict.fromkeys(bought, -SEAT_PRICE)
            if user in self._before:
                assert await buyer.balance() == self._before[user] - len(bought) * SEAT_PRICE
        for schedule in {each.schedule for each in self.purchases}:
            await self._shows_what_is_left(schedule, {each.seat for each in confirmed if each.schedule == schedule})

    async def _shows_what_is_left(self, schedule: int, sold: set[int]) -> None:
        left = set(range(1, SEATS_PER_SCHEDULE + 1)) - sold
        buyer = self._buyers()[0]

        async def is_shown() -> bool:
            return set(await buyer.seats(schedule)) == left

        await eventually(is_shown, 5, f"schedule {schedule} showing what is left")

    async def _net_charges(self, buyer: Buyer) -> dict[str, int]:
        """Points that moved for each reservation of this sale, those that were given back left out."""
        ours = {purchase.reservation for purchase in self.purchases}
        net: dict[str, int] = {}
        async for entry in _ledger(buyer):
            reservation = entry["op"].split(":")[1] if entry["kind"] in ("pay", "refund") else ""
            if reservation in ours:
                net[reservation] = net.get(reservation, 0) + entry["amount"]
        return {reservation: amount for reservation, amount in net.items() if amount}

    def _buyers(self) -> list[Buyer]:
        return [Buyer(self.caller, user=user) for user in self.users]

    async def _buy_all(self, buyer: Buyer, place: int, until: asyncio.Event) -> None:
        for schedule, seat in self._wanted(place):
            if until.is_set():
                return
            await self._buy(buyer, schedule, seat)
            await asyncio.sleep(PACE_S)
        raise AssertionError("the sale was sold out before it was over; give it more schedules")

    def _wanted(self, place: int) -> Iterator[tuple[int, int]]:
        for schedule in self.schedules:
            for number in range(SEATS_EACH_MAX):
                yield schedule, place * SEATS_EACH_MAX + number + 1

    async def _buy(self, buyer: Buyer, schedule: int, seat: int) -> None:
        key = f"{buyer.user}-{schedule}-{seat}"
        held = await insist(lambda: buyer.hold(schedule, [seat], key=f"hold-{key}"), {201})
        purchase = Purchase(buyer, schedule, seat, held.json["id"])
        self.purchases.append(purchase)

        async def pay() -> Answered:
            answer = await buyer.pay(purchase.reservation, key=f"pay-{key}")
            self.answers.append((time.monotonic(), answer))
            return answer

        # 409: it expired, or was called off while the outcome was out. The account afterwards says which.
        paid = await insist(pay, {200, 202, 409})
        purchase.paid = paid.status == 200
        if paid.status == 202:
            await await_outcome(purchase)


async def await_outcome(purchase: Purchase) -> None:
    """Ask until the reservation is at its end, and note whether it is paid for."""

    async def look() -> Answered:
        reply = await purchase.buyer.reservation(purchase.reservation)
        return reply if reply.status != 200 or reply.json["status"] in FINAL else NOT_YET

    purchase.paid = (await insist(look, {200})).json["status"] == "CONFIRMED"


async def _ledger(buyer: Buyer) -> AsyncIterator[dict[str, Any]]:
    """Every entry, newest first."""
    before = ""
    while True:
        reply = await buyer.call("GET", f"/users/{buyer.user}/wallet/entries?limit=200{before}")
        assert reply.status == 200, reply.body
        for entry in reply.json["entries"]:
            yield entry
        if not reply.json.get("nextBefore"):
            return
        before = f"&before={reply.json['nextBefore']}"


async def insist(send: Callable[[], Awaitable[Answered]], wanted: set[int]) -> Answered:
    """Send until the answer is one of `wanted`. One that is neither that nor "not now" fails the test."""
    deadline_s = time.monotonic() + INSIST_S
    last: object = None
    while time.monotonic() < deadline_s:
        try:
            answer = last = await send()
        except (aiohttp.ClientError, TimeoutError) as lost:  # nothing is known about what became of the request
            last = lost
        else:
            if not is_not_now(answer):
                assert answer.status in wanted, answer.body
                return answer
        await asyncio.sleep(PAUSE_S)
    raise AssertionError(f"no answer in {wanted} within {INSIST_S:g} s; the last: {last}")


def is_not_now(answer: Answered) -> bool:
    return answer.status in (429, 503) or (answer.status == 409 and answer.code == "REQUEST_IN_PROGRESS")
