"""Several queues on one store: who leads, and what races decide."""

import asyncio
import random
from typing import Any

import pytest

from libs.common.storage.ports import Body
from libs.common.testing.eventually import eventually
from libs.common.testing.virtual import run_virtual
from services.queue.repository import ROOMS
from services.queue.tests.scene import People, Scene, SlowStore, play_many, ticket


async def body_of(scene: Scene, room: int = 1) -> Body:
    found = await scene.store._collections["rooms"].load(str(room))
    assert found is not None
    return found.body


def test_one_of_several_leads_and_all_answer() -> None:
    async def act(scene: Scene, people: list[People], stores: list[SlowStore]) -> None:
        await asyncio.gather(*(side.ask_to_join() for side in people * 100))
        scene.heard.clear()
        await scene.ticks(10)
        assert {move.fence for move in scene.moves} == {1}
        assert len({move.tick for move in scene.moves}) == len(scene.moves) >= 9
        assert [await side.claim(n + 1) for n, side in enumerate(people)] == ["open"] * 3
        assert (await people[2].room())["issued"] == 300

    play_many(act, 3)


def test_a_leader_that_stops_ticking_is_replaced_after_its_lease_and_loses_its_next_compare_and_set() -> None:
    async def act(scene: Scene, people: list[People], stores: list[SlowStore]) -> None:
        await people[1].join(2)
        leader = (await people[1].room())["leader"]
        stopped = stores[0 if leader == "q1" else 1]
        awake = people[1 if leader == "q1" else 0]
        stopped.gate.clear()
        scene.heard.clear()
        await scene.clock.sleep(2.5)
        assert (await awake.room())["leader"] == leader
        await scene.clock.sleep(3)
        room = await awake.room()
        assert (room["leader"] != leader, room["fence"]) == (True, 2)
        await awake.join(3)
        await awake.change(capacity=0)
        stopped.gate.set()
        await scene.ticks(5)
        after = await awake.room()
        assert (after["fence"], after["leader"]) == (2, room["leader"])
        assert after["watermark"] == 2 + (room["watermark"] > 2)
        fences = [move.fence for move in scene.moves]
        assert fences == sorted(fences)
        assert len({(move.fence, move.tick) for move in scene.moves}) == len(scene.moves)

    play_many(act, 2, room_capacity=2)


def test_a_leader_that_stops_in_order_hands_over_at_once() -> None:
    async def run() -> None:
        async with Scene().listening() as scene:
            (first, _), (second, _) = scene.instance(), scene.instance()
            async with second:
                async with first:
                    await scene.ticks(2)
                await scene.clock.sleep(1.1)
                room = await People(second).room()
                assert room["leader"] == "q2"

    run_virtual(run())


def test_a_leader_paused_in_the_middle_of_a_tick_admits_nobody_on_an_old_count() -> None:
    async def act(scene: Scene, people: list[People], stores: list[SlowStore]) -> None:
        first, second = people if (await people[0].room())["leader"] == "q1" else people[::-1]
        slow = stores[people.index(first)]
        counted = asyncio.Event()
        collection = scene.store._collections["sessions"]
        count = collection.count

        async def count_and_pause(where: Any) -> int:
            found = await count(where)
            if not counted.is_set() and any(condition.field == "state" for condition in where):
                counted.set()
                slow.gate.clear()  # it has counted nobody inside, and stands still before it admits
            return found

        collection.count = count_and_pause  # type: ignore[method-assign]
        await counted.wait()
        await second.join(5)
        await scene.clock.sleep(6)
        assert [await second.claim(n) for n in (1, 2, 3)] == ["open", "open", "none"]
        slow.gate.set()
        await scene.ticks(3)
        assert (await second.room())["watermark"] == 2
        assert await first.claim(3) == "none"

    play_many(act, 2, room_capacity=2)


@pytest.mark.parametrize("seed", range(5))
def test_of_a_claim_and_a_lapse_at_once_exactly_one_gets_the_place(seed: int) -> None:
    async def act(scene: Scene, people: list[People], stores: list[SlowStore]) -> None:
        await people[0].join(40)
        await people[0].change(capacity=40)
        await eventually(lambda: bool(scene.moves) and scene.moves[-1].watermark == 40)
        lapses_s = (scene.moves[-1].at_ms - scene.clock.now_ms()) / 1000 + 60
        chance = random.Random(seed)

        async def claim_late(sequence: int) -> str:
            await scene.clock.sleep(lapses_s + chance.uniform(-1, 3))
            return await people[sequence % 2].claim(sequence)

        states = await asyncio.gather(*(claim_late(sequence) for sequence in range(1, 41)))
        assert set(states) == {"open", "returning"}
        sessions = scene.store._collections["sessions"]._documents
        came_in = {n for n in range(1, 41) if sessions[f"1:{n}"][1]["state"] == "open"}
        assert came_in >= {n for n, state in enumerate(states, 1) if state == "open"}
        await scene.ticks(2)
        assert len(scene.opened) == len(set(scene.opened))
        assert set(scene.opened) >= came_in

    play_many(act, 2, room_capacity=0, seed=seed)


def test_a_claim_told_open_by_two_instances_is_one_session() -> None:
    async def act(scene: Scene, people: list[People], stores: list[SlowStore]) -> None:
        await people[0].join(3)
        await scene.ticks(2)
        states = await asyncio.gather(*(side.claim(1) for side in people * 10))
        assert set(states) == {"open"}
        await scene.ticks()
        assert scene.opened == [1]

    play_many(act, 2, seed=1)


def test_offers_that_are_over_leave_the_room_document() -> None:
    async def act(scene: Scene, people: list[People], stores: list[SlowStore]) -> None:
        await people[0].join(200)
        for capacity in range(1, 100):
            await people[0].change(capacity=capacity)
            await scene.clock.sleep(1)
        body = await body_of(scene)
        assert len(body["offers"]) <= 62
        assert body["settled"] > 0

    play_many(act, 1, room_capacity=0)


def test_more_lapses_than_one_tick_takes_follow_at_once() -> None:
    async def act(scene: Scene, people: list[People], stores: list[SlowStore]) -> None:
        await asyncio.gather(*(people[0].ask_to_join() for _ in range(1_700)))
        await scene.clock.sleep(55)
        assert await people[0].claim(600) == "open"
        await scene.clock.sleep(8)
        body = await body_of(scene)
        assert (body["settled"], body["watermark"]) == (1_700, 1_700)
        assert (await people[0].room())["openSessions"] == 1
        page = (await people[0].client.call("GET", "/metrics")).body.decode()
        assert 'stagedoor_queue_lapsed_total{room="1"} 1699.0' in page
        assert 'stagedoor_job_runs_total{job="tick",outcome="bound"}' in page

    play_many(act, 1, room_capacity=1_700)


def test_a_claim_that_read_the_room_before_the_floor_moved_opens_no_second_visit() -> None:
    async def act(scene: Scene, people: list[People], stores: list[SlowStore]) -> None:
        follower = 1 if (await people[0].room())["leader"] == "q1" else 0
        await people[0].join(1)
        await scene.ticks()
        await people[0].claim(1)
        await scene.clock.sleep(8 - scene.clock.monotonic_s())
        await people[0].leave(1)
        await scene.clock.sleep(99.5)
        stores[follower].on_load = stores[follower].gate.clear  # stands still with what it read
        late = asyncio.create_task(people[follower].claim(1))
        await scene.clock.sleep(3)  # the floor moves at 108 or 109 s, sessions are purged at 110 s
        assert (await body_of(scene))["floor"] == 1
        stores[follower].on_load = lambda: None
        stores[follower].gate.set()
        assert await late == "ended"
        await scene.clock.sleep(20)
        assert scene.store._collections["sessions"]._documents == {}

    play_many(act, 2, session_keep_s=100, purge_s=10)


class Crowd:
    """People who do all they can do, at random, at both of two queues that stand still now and then; and a watcher who
    checks the whole store after every write."""

    capacity = 4

    def __init__(self, scene: Scene, people: list[People], stores: list[SlowStore], seed: int) -> None:
        self.scene, self.people, self.stores = scene, people, stores
        self.chance = random.Random(seed)
        self.watermark = 0
        self.first_opened: dict[int, int] = {}
        self.states: dict[int, str] = {}
        scene.on_swap = self.check

    def check(self) -> None:
        collections = self.scene.store._collections
        room = ROOMS.decode(collections["rooms"]._documents["1"][1])
        sessions = {body["sequence"]: body for _, body in collections["sessions"]._documents.values()}
        now_ms = self.scene.clock.now_ms()
        inside = [s for s in sessions.values() if s["state"] == "open" and s["until_ms"] > now_ms]
        unanswered = [n for n in range(room.settled + 1, room.watermark + 1) if n not in sessions]
        awaited = [
            entry
            for entry in room.returning
            if entry.offered_ms is not None
            and sessions[entry.sequence]["state"] == "lapsed"
            and sessions[entry.sequence]["round"] < entry.round
        ]
        assert len(inside) + len(unanswered) + len(awaited) <= self.capacity
        assert self.watermark <= room.watermark <= room.issued
        assert all(n in sessions for n in range(1, room.settled + 1))
        assert all(n <= room.watermark for n, body in sessions.items() if body["state"] != "ended")
        for sequence, body in sessions.items():
            assert self.states.get(sequence) != "ended" or body["state"] == "ended", "reopened"
            self.states[sequence] = body["state"]
        self.watermark = room.watermark

    async def person(self) -> None:
        side = self.chance.choice(self.people)
        (sequence,) = await side.join()
        for _ in range(60):
            await self.scene.clock.sleep(self.chance.choice((0.3, 1, 2, 9)))
            side = self.chance.choice(self.people)
            fate = self.chance.random()
            if fate < 0.02:
                await side.leave(sequence)
                return
            if fate < 0.04:
                return
            state = await side.claim(sequence)
            if state == "ended":
                return
            if state == "open" and fate < 0.3:
                await self.scene.confirm(sequence)
                return

    async def pauses(self) -> None:
        while True:
            await self.scene.clock.sleep(self.chance.uniform(1, 6))
            store = self.chance.choice(self.stores)
            store.gate.clear()
            await self.scene.clock.sleep(self.chance.choice((0.2, 1, 4)))
            store.gate.set()


@pytest.mark.parametrize("seed", range(6))
def test_never_more_inside_than_the_room_takes_whatever_people_and_leaders_do(seed: int) -> None:
    async def act(scene: Scene, people: list[People], stores: list[SlowStore]) -> None:
        crowd = Crowd(scene, people, stores, seed)
        pauses = asyncio.create_task(crowd.pauses())
        async with asyncio.TaskGroup() as everybody:
            for _ in range(60):
                everybody.create_task(crowd.person())
                await scene.clock.sleep(crowd.chance.choice((0, 0.5, 2)))
        pauses.cancel()
        for store in stores:
            store.gate.set()
        await scene.clock.sleep(120)
        room = await people[0].room()
        assert (room["watermark"], room["issued"], room["openSessions"], room["unclaimed"]) == (60, 60, 0, 0)

    play_many(act, 2, seed=seed, room_capacity=Crowd.capacity, claim_window_s=5, session_s=20, request_deadline_s=30)


def test_a_ticket_of_the_line_is_what_is_told_in_events() -> None:
    async def act(scene: Scene, people: list[People], stores: list[SlowStore]) -> None:
        await people[0].join()
        await scene.clock.sleep(63)
        await people[0].claim(1)
        await scene.ticks(2)
        assert await people[0].claim(1) == "open"
        await people[0].leave(1)
        await scene.ticks()
        assert {event.ticket for event in scene.heard if not hasattr(event, "tick")} == {ticket(1)}

    play_many(act, 1)
