"""A small sale with everything against it: messages doubled and shuffled, replies of the store and the broker lost, a
wallet that stalls, clocks apart. When it is quiet again, what is sold, what is confirmed and what is charged agree.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from libs.common.errors import DependencyDown
from libs.common.messaging.ports import Message
from libs.common.storage.memory import MemoryCollection
from libs.common.testing.app_client import Answered
from services.reservation.tests.scene import HOLD, ONE_BLOCK, PRICE, TWO_BLOCKS, Scene, in_scene, visitor

USERS = range(1, 13)
SEATS = {ONE_BLOCK: list(range(1, 19)), TWO_BLOCKS: [1, 2, 3, 4, 5, 401, 402, 403, 404, 405]}
KNOBS: dict[str, Any] = {
    "skews_ms": (-900, 900),
    "clock_skew_s": 2.0,
    "hold_s": 20.0,
    "pay_deadline_s": 6.0,
    "max_seats_per_user": 4,
}


stragglers: set[asyncio.Task[None]] = set()
"""Late retries on their way: a task nobody holds may vanish."""


def disturb(scene: Scene, chance: random.Random, share: float) -> None:
    """From now on a `share` of writes fail before or after they are committed, and messages come as they please."""

    def disturbed(collection: MemoryCollection) -> Any:
        swap = collection.swap

        async def swap_or_not(id_: str, expected: int, body: Any, events: Sequence[Message]) -> None:
            if chance.random() < share:
                raise DependencyDown("lost on the way there")
            await swap(id_, expected, body, events)
            if chance.random() < share:
                raise DependencyDown("lost on the way back")

        return swap_or_not

    for collection in scene.store._collections.values():
        collection.swap = disturbed(collection)  # type: ignore[method-assign]

    async def shuffled(instance: str, messages: Sequence[Message]) -> Sequence[Message]:
        await asyncio.sleep(chance.random() * 0.2)
        if chance.random() < share:
            raise DependencyDown("the broker did not get it")
        return chance.sample(list(messages), len(messages))

    async def doubled(instance: str, group: str | None, message: Message) -> int:
        if chance.random() < share:
            await asyncio.sleep(chance.random() * 10)
        return chance.choice((1, 1, 1, 2, 3))

    scene.broker.on_publish = shuffled  # type: ignore[method-assign]
    scene.broker.on_delivery = doubled  # type: ignore[method-assign]


async def hold(scene: Scene, chance: random.Random, user: int, round_: int) -> str | None:
    """Hold some seats, trying again as a gateway does, and once more when nobody needs it any more."""
    schedule = chance.choice(list(SEATS))
    seats = tuple(chance.sample(SEATS[schedule], chance.randint(1, 3)))
    made = chance.random() < 0.5

    async def send() -> Answered:
        at, by = chance.choice((scene.one, scene.two)), visitor(user * 100 + round_)
        return await scene.hold(user, seats, f"hold-{round_}", at=at, by=by, schedule=schedule, made=made)

    async def send_late() -> None:
        await asyncio.sleep(chance.random() * 30)
        await send()

    late = asyncio.create_task(send_late())
    stragglers.add(late)
    late.add_done_callback(stragglers.discard)
    for _ in range(3):
        reply = await send()
        if reply.status < 500:
            break
    return str(reply.json["id"]) if reply.status == 201 else None


async def visit(scene: Scene, user: int, chance: random.Random) -> list[str]:
    """What one user does; the reservations that were told to be paid."""
    told_paid: list[str] = []
    for round_ in range(8):
        by = visitor(user * 100 + round_)
        id_ = await hold(scene, chance, user, round_)
        if id_ is None:
            continue
        await asyncio.sleep(chance.choice((0, 0, 1, 15, 25)))
        if chance.random() < 0.2:
            await scene.send("DELETE", f"{HOLD}/{id_}", at=scene.two, by=by)
        for _ in range(3):
            at = chance.choice((scene.one, scene.two))
            calls = [scene.pay(id_, f"pay-{round_}", user, at=at, by=by) for _ in range(chance.randint(1, 3))]
            if 200 in {paid.status for paid in await asyncio.gather(*calls)}:
                told_paid.append(id_)
                break
            if chance.random() < 0.5:
                scene.wallet.balance[user] = scene.wallet.balance.get(user, 0) + 2 * PRICE
    return told_paid


async def stall_the_wallet(scene: Scene, chance: random.Random) -> None:
    while True:
        scene.wallet.delay_s = chance.choice((0, 0, 0, 0.5, 3, 8))
        scene.wallet.mute = chance.random() < 0.2
        await asyncio.sleep(3)


def count_up(scene: Scene) -> None:
    reservations = scene.stored("reservations")
    confirmed = {id_: body for id_, body in reservations.items() if body["status"] == "CONFIRMED"}
    assert {body["status"] for body in reservations.values()} <= {"CONFIRMED", "CANCELLED", "EXPIRED"}
    assert all(body["owes"] is None for body in reservations.values())

    charged = sorted(scene.wallet.charged)
    assert charged == sorted((id_, len(body["attempts"])) for id_, body in confirmed.items())

    owed = {(body["schedule"], seat): (id_, n) for id_, body in confirmed.items() for seat, _, n in body["seats"]}
    assert len(owed) == sum(len(body["seats"]) for body in confirmed.values()), "a seat is sold twice"
    rows = [(block["schedule"], row) for block in scene.stored("blocks").values() for row in block["seats"]]
    assert {(schedule, row[0]): (row[3], row[1]) for schedule, row in rows if row[2] == "sold"} == owed
    assert {row[2] for _, row in rows} <= {"free", "sold"}

    per_user = Counter((schedule, row[4]) for schedule, row in rows if row[2] == "sold")
    assert all(count <= KNOBS["max_seats_per_user"] for count in per_user.values())


@pytest.mark.parametrize("seed", range(8))
def test_after_the_storm_sold_confirmed_and_charged_agree(seed: int) -> None:
    async def play(scene: Scene) -> None:
        chance = random.Random(seed)
        await scene.held(99, (20,))  # every collection is there before it is disturbed
        disturb(scene, chance, share=0.08)
        scene.wallet.balance = {user: chance.choice((0, 2, 20)) * PRICE for user in USERS}
        stalling = asyncio.create_task(stall_the_wallet(scene, chance))
        visits = await asyncio.gather(*(visit(scene, user, random.Random(seed * 1000 + user)) for user in USERS))
        stalling.cancel()
        scene.wallet.delay_s, scene.wallet.mute = 0, False
        await asyncio.sleep(180)
        count_up(scene)
        told_paid = [id_ for told in visits for id_ in told]
        assert {scene.stored("reservations")[id_]["status"] for id_ in told_paid} <= {"CONFIRMED"}
        assert len(scene.wallet.charged) > 0, "a storm nobody bought in proves nothing"

    in_scene(play, **KNOBS)
