"""What an operator does from a second terminal, to the system that runs."""

import asyncio
import json
import subprocess

import pytest

from libs.common.testing.eventually import eventually
from tests.buyer import SEAT_PRICE, Buyer
from tests.e2e.system import RunningSystem

pytestmark = pytest.mark.e2e

BY = ("--who", "Kim", "--why", "a test of the operator's verbs")


async def test_a_room_is_paused_resized_and_opened_again(system: RunningSystem, newcomer: Buyer) -> None:
    async def act(*words: str) -> str:
        return await asyncio.to_thread(system.act, *words)

    (before,) = json.loads(await act("rooms", "--json"))
    assert "paused" in await act("room", "1", *BY, "--state", "paused")
    await newcomer.join()
    (paused,) = json.loads(await act("rooms", "--json"))
    assert (paused["state"], paused["capacity"]) == ("paused", before["capacity"])
    assert await newcomer.position() > 0
    await act("room", "1", *BY, "--state", "open", "--capacity", str(before["capacity"] + 1))

    async def is_inside() -> bool:
        return await newcomer.position() == 0

    await eventually(is_inside, within_s=10)
    await act("room", "1", *BY, "--capacity", str(before["capacity"]))
    with pytest.raises(subprocess.CalledProcessError):
        await act("room", "1", "--state", "closed")
    (after,) = json.loads(await act("rooms", "--json"))
    assert (after["state"], after["capacity"]) == ("open", before["capacity"])


async def test_a_buyer_gets_the_points_back(system: RunningSystem, buyer: Buyer, number: int) -> None:
    before = await buyer.balance()
    held = (await buyer.hold(number, [1, 2])).json["id"]
    assert (await buyer.pay(held)).status == 200
    assert await buyer.balance() == before - 2 * SEAT_PRICE
    assert f"reservation {held} REFUND" in await asyncio.to_thread(system.act, "refund", held, *BY)

    async def is_back() -> bool:
        return await buyer.balance() == before and await buyer.status_of(held) == "REFUNDED"

    await eventually(is_back, within_s=10)
