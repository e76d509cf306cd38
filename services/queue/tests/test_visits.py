"""One queue alone: coming in, staying, leaving, and coming too late."""

import pytest

from libs.common.events.queue import SessionClosed, SessionOpened
from libs.common.storage.ports import Decision
from services.queue.domain.visits import Session, expire
from services.queue.service import keeping
from services.queue.tests.scene import People, Scene, play, ticket


def test_a_tick_lets_in_as_many_as_the_room_takes() -> None:
    async def act(scene: Scene, people: People) -> None:
        await people.join(5)
        assert await people.claim(1) == "none"
        await scene.ticks()
        assert [await people.claim(sequence) for sequence in (1, 2, 3, 4)] == ["open", "open", "open", "none"]
        await scene.ticks(5)
        room = await people.room()
        assert (room["watermark"], room["openSessions"], room["unclaimed"]) == (3, 3, 0)
        assert scene.opened == [1, 2, 3]

    play(act)


def test_payment_ends_the_session_and_its_place_is_free_within_a_tick() -> None:
    async def act(scene: Scene, people: People) -> None:
        await people.join(4)
        await scene.ticks()
        for sequence in (1, 2, 3):
            await people.claim(sequence)
        await scene.confirm(2)
        await scene.ticks()
        assert await people.read(2) == ("ended", "paid")
        assert scene.closed == [(2, "paid")]
        assert await people.claim(4) == "open"
        assert await people.claim(2) == "ended"

    play(act)


def test_a_static_ticket_is_never_used_up_and_other_rooms_are_not_ours() -> None:
    async def act(scene: Scene, people: People) -> None:
        await people.join(1)
        await scene.confirm(None, room=None)
        await scene.confirm(1, room=77)
        await scene.clock.sleep(1)
        assert scene.closed == []
        assert (await people.client.call("GET", "/readyz")).status == 200

    play(act)


def test_a_session_that_ran_out_frees_its_place_within_a_tick() -> None:
    async def act(scene: Scene, people: People) -> None:
        await people.join(2)
        await scene.ticks()
        await people.claim(1)
        await scene.clock.sleep(31.8)  # over by this clock, but not by every clock
        assert scene.closed == []
        assert await people.read(1) == ("open", None)
        assert await people.claim(2) == "none"
        await scene.clock.sleep(0.2 + 1.6)  # the skew, a sweep and a tick
        assert scene.closed == [(1, "expired")]
        assert await people.read(1) == ("ended", "expired")
        assert await people.claim(2) == "open"

    play(act, room_capacity=1, session_s=30, clock_skew_s=2)


def test_a_visit_that_cannot_be_ended_does_not_hide_the_ends_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken_for_the_first(found: Session | None, until_latest_ms: int, now_ms: int) -> Decision[Session, bool]:
        if found is not None and found.sequence == 1:
            raise RuntimeError("this document is broken")
        return expire(found, until_latest_ms, now_ms)

    monkeypatch.setattr(keeping, "expire", broken_for_the_first)

    async def act(scene: Scene, people: People) -> None:
        await people.join(3)
        await scene.ticks()
        for sequence in (1, 2, 3):
            await people.claim(sequence)
        await scene.clock.sleep(35)
        assert sorted(scene.closed) == [(2, "expired"), (3, "expired")]
        page = (await people.client.call("GET", "/metrics")).body.decode()
        assert 'stagedoor_queue_sessions_ended_total{reason="expired",room="1"} 2.0' in page

    play(act, session_s=30, clock_skew_s=0)


def test_a_place_is_free_before_the_sweeper_comes() -> None:
    async def act(scene: Scene, people: People) -> None:
        await people.join(2)
        await scene.ticks()
        await people.claim(1)
        await scene.clock.sleep(32)
        assert scene.closed == []
        assert await people.read(1) == ("ended", "expired")
        assert await people.claim(2) == "open"

    play(act, room_capacity=1, session_s=30.5, sweep_s=10)


def test_leaving_gives_the_place_back_and_no_late_claim_reopens_it() -> None:
    async def act(scene: Scene, people: People) -> None:
        await people.join(2)
        await scene.ticks()
        await people.claim(1)
        left = await people.leave(1)
        assert (left["state"], left["reason"]) == ("ended", "left")
        assert await people.leave(1) == left
        assert await people.claim(1) == "ended"
        await scene.ticks()
        assert await people.claim(2) == "open"
        assert [event.reason for event in scene.heard if isinstance(event, SessionClosed)] == ["left"]

    play(act, room_capacity=1)


def test_those_who_leave_while_waiting_cost_those_behind_them_nothing() -> None:
    async def act(scene: Scene, people: People) -> None:
        await people.join(50)
        for sequence in range(1, 49):
            await people.leave(sequence)
        await scene.ticks()
        assert (await people.room())["watermark"] >= 49
        assert await people.claim(49) == "open"
        assert await people.claim(7) == "ended"

    play(act, room_capacity=1)


def test_leaving_before_a_place_is_given_out_takes_nobody_elses_place() -> None:
    async def act(scene: Scene, people: People) -> None:
        assert (await people.leave(1))["state"] == "none"
        await people.join()
        await scene.ticks()
        assert await people.claim(1) == "open"

    play(act)


def test_an_offer_nobody_claims_lapses_and_its_place_goes_on() -> None:
    async def act(scene: Scene, people: People) -> None:
        await people.join(2)
        await scene.ticks()
        await scene.clock.sleep(59)
        assert await people.claim(2) == "none"
        await scene.clock.sleep(3)
        assert await people.claim(2) == "open"
        assert await people.read(1) == ("returning", None)

    play(act, room_capacity=1)


def test_who_returns_after_a_lapse_is_let_in_before_the_line() -> None:
    async def act(scene: Scene, people: People) -> None:
        await people.join(4)
        await scene.clock.sleep(63)  # 1 has lapsed, 2 was offered
        assert await people.claim(2) == "open"
        assert await people.claim(1) == "returning"
        await scene.ticks(3)
        assert await people.claim(1) == "returning"
        await people.leave(2)
        await scene.ticks()
        assert await people.claim(3) == "none"
        assert await people.claim(1) == "open"
        assert (await people.room())["returning"] == 1
        await scene.ticks()
        assert (await people.room())["returning"] == 0
        assert scene.opened == [2, 1]

    play(act, room_capacity=1)


def test_a_second_offer_lapses_too_and_can_be_asked_for_again() -> None:
    async def act(scene: Scene, people: People) -> None:
        await people.join(1)
        await scene.clock.sleep(63)
        assert await people.claim(1) == "returning"
        await scene.clock.sleep(65)  # offered again and lapsed again
        assert (await people.room())["returning"] == 0
        assert (await people.room())["unclaimed"] == 0
        assert await people.claim(1) == "returning"
        await scene.ticks(2)
        assert await people.claim(1) == "open"
        await scene.ticks(2)
        assert (await people.room())["openSessions"] == 1

    play(act, room_capacity=1)


def test_an_open_session_is_told_with_its_end_and_a_repeated_claim_changes_nothing() -> None:
    async def act(scene: Scene, people: People) -> None:
        await people.join()
        await scene.ticks()
        first = await people.client.call("POST", "/internal/v1/claims", {"ticket": ticket(1)})
        claimed_ms = scene.clock.now_ms()
        await scene.clock.sleep(5)
        again = await people.client.call("POST", "/internal/v1/claims", {"ticket": ticket(1)})
        assert first.json == again.json == {
            "ticket": ticket(1), "room": 1, "sequence": 1, "state": "open", "untilMs": claimed_ms + 600_000,
            "reason": None,
        }  # fmt: skip
        events = [event for event in scene.heard if isinstance(event, SessionOpened)]
        assert events == [SessionOpened(ticket(1), 1, 1, until_ms=claimed_ms + 600_000, at_ms=claimed_ms)]

    play(act)
