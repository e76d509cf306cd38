"""Joining: places in order of arrival, once per key."""

import asyncio

import pytest

from services.queue.service import keeping
from services.queue.tests.scene import CODEC, People, Scene, play, ticket


def test_1200_joins_at_once_get_places_in_order_of_arrival() -> None:
    async def act(scene: Scene, people: People) -> None:
        replies = await asyncio.gather(*(people.ask_to_join() for _ in range(1_200)))
        assert [reply.status for reply in replies] == [201] * 1_200
        assert [reply.json["sequence"] for reply in replies] == list(range(1, 1_201))
        verified = [CODEC.verify(reply.json["ticket"]) for reply in replies]
        assert [found.sequence for found in verified if found] == list(range(1, 1_201))
        assert (await people.room())["issued"] == 1_200

    play(act)


def test_a_join_is_durable_before_it_is_told() -> None:
    async def act(scene: Scene, people: People) -> None:
        before = len(scene.store.outbox)
        (sequence,) = await people.join()
        found = await scene.store._collections["rooms"].load("1")
        assert found is not None
        assert found.body["issued"] == sequence
        assert len(scene.store.outbox) <= before + 1

    play(act)


def test_a_join_sent_twice_with_its_own_key_gets_the_same_ticket() -> None:
    async def act(scene: Scene, people: People) -> None:
        first = await people.ask_to_join(key="k-1")
        again = await people.ask_to_join(key="k-1")
        assert first.json == again.json
        assert "idempotent-replayed" not in first.headers
        assert again.headers["idempotent-replayed"] == "true"
        assert (await people.room())["issued"] == 1
        assert (await people.ask_to_join(key="k-1", userId=8)).json["sequence"] == 2

    play(act)


def test_a_key_that_comes_back_with_another_body_is_refused() -> None:
    async def act(scene: Scene, people: People) -> None:
        await people.ask_to_join(key="k-1", userId=8)
        refused = await people.ask_to_join(key="k-1", userId=8, room=7)
        assert (refused.status, refused.code) == (422, "IDEMPOTENCY_MISMATCH")

    play(act, rooms="1,7")


def test_twins_with_one_key_get_one_ticket_or_are_told_to_wait() -> None:
    async def act(scene: Scene, people: People) -> None:
        replies = await asyncio.gather(*(people.ask_to_join(key="k-1") for _ in range(5)))
        assert {reply.json["ticket"] for reply in replies if reply.status == 201} == {ticket(1)}
        assert {reply.code for reply in replies if reply.status != 201} <= {"REQUEST_IN_PROGRESS"}
        assert (await people.room())["issued"] == 1

    play(act)


def test_a_refused_join_may_use_its_key_again_at_once() -> None:
    async def act(scene: Scene, people: People) -> None:
        await people.change(state="closed")
        assert (await people.ask_to_join(key="k-1")).code == "ROOM_CLOSED"
        await people.change(state="open")
        assert (await people.ask_to_join(key="k-1")).status == 201

    play(act)


def test_a_refused_join_may_be_put_right_under_its_key() -> None:
    async def act(scene: Scene, people: People) -> None:
        await people.change(state="closed")
        assert (await people.ask_to_join(key="k-1", room=1)).code == "ROOM_CLOSED"
        first = await people.ask_to_join(key="k-1", room=7)
        assert first.status == 201
        assert (await people.ask_to_join(key="k-1", room=7)).json == first.json
        assert (await people.ask_to_join(key="k-1", room=1)).code == "IDEMPOTENCY_MISMATCH"

    play(act, rooms="1,7")


def test_made_keys_leave_nothing_behind() -> None:
    async def act(scene: Scene, people: People) -> None:
        headers = {"Idempotency-Key": "made-by-the-gateway", "X-Idempotency-Key-Made": "1"}
        for _ in range(3):
            await people.client.call("POST", "/internal/v1/joins", {}, headers=headers)
        assert (await people.room())["issued"] == 3
        assert scene.store._collections["joins"]._documents == {}

    play(act)


def test_keys_are_forgotten_after_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(scene: Scene, people: People) -> None:
        await people.ask_to_join(key="k-1")
        await scene.clock.sleep(190)
        assert (await people.ask_to_join(key="k-1")).json["sequence"] == 1
        await scene.clock.sleep(80)
        assert scene.store._collections["joins"]._documents == {}

    monkeypatch.setattr(keeping, "KEY_KEPT_MS", 200_000)
    play(act)
