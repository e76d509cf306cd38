"""The wallet alone, on memory adapters and in virtual time: what clients and events see."""

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from libs.common.events.catalogue import to_message
from libs.common.events.wallet import PaymentCompleted, PaymentDeclined, PaymentRefunded, PaymentVoided
from libs.common.messaging.ports import Message
from libs.common.storage.memory import MemoryStore
from libs.common.testing.virtual import LoopClock, run_virtual
from libs.common.web.idempotency import IdempotencyKey
from services.wallet.domain import BALANCE_MAX, Entry
from services.wallet.metrics import WalletMetrics
from services.wallet.repository import ENTRIES, LedgerRepository
from services.wallet.service import REMEMBERED_S, WalletService
from services.wallet.tests.scene import CHARGE, Scene, SlowLedger, cancelled, in_scene, requested


def test_a_wallet_begins_with_its_first_charge() -> None:
    async def play(scene: Scene) -> None:
        assert (await scene.client.call("GET", "/api/v1/users/7/wallet")).code == "USER_NOT_FOUND"
        reply = await scene.charge(7, 100)
        assert reply.status == 200
        assert reply.json == {
            "id": 7,
            "userId": 7,
            "amount": 100,
            "createAt": "2027-01-15T08:00:00.000Z",
            "updatedAt": "2027-01-15T08:00:00.000Z",
        }

    in_scene(play)


def test_100_charges_of_1_at_once_through_two_instances_add_exactly_100() -> None:
    async def play(scene: Scene) -> None:
        await scene.charge(7, 1000)
        body = {"userId": 7, "point": 1}
        sides = [scene.client, scene.other] * 50
        replies = await asyncio.gather(*(side.call("PATCH", CHARGE, body) for side in sides))
        assert [reply.status for reply in replies] == [200] * 100
        assert sorted(reply.json["amount"] for reply in replies) == list(range(1001, 1101))
        assert await scene.balance(7) == 1100

    in_scene(play)


def test_who_lost_to_a_process_with_many_charges_waiting_still_gets_its_turn() -> None:
    async def play() -> list[int]:
        clock, metrics = LoopClock(), WalletMetrics()
        store = MemoryStore(clock)
        one, two = (WalletService(SlowLedger(store, metrics, lambda _: None), clock, metrics) for _ in range(2))
        await one.open(7, 1000)
        keys = [IdempotencyKey(f"k{n}", "digest", made=False) for n in range(100)]
        charges = [one.charge(7, 1, key) for key in keys[:99]] + [two.charge(7, 1, keys[99])]
        return sorted(entry.balance_after for entry, _ in await asyncio.gather(*charges))

    assert run_virtual(play()) == list(range(1001, 1101))


def test_what_the_newest_entry_says_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> int:
        clock, metrics = LoopClock(), WalletMetrics()
        wallet = WalletService(LedgerRepository(MemoryStore(clock), metrics, lambda _: None), clock, metrics)
        await wallet.open(7, 1000)
        await wallet.pay("r-1", 1, 7, 70, asked_ms=clock.now_ms())
        await wallet.cancel("r-1", 1, 7, asked_ms=clock.now_ms())
        return (await wallet.wallet(7)).balance_after

    async def by_op(_ledger: LedgerRepository, op: str) -> Entry | None:
        raise AssertionError(op)

    monkeypatch.setattr(LedgerRepository, "by_op", by_op)
    assert run_virtual(play()) == 1000


def test_the_same_key_charges_once_and_gets_the_first_answer_again() -> None:
    async def play(scene: Scene) -> None:
        first = await scene.charge(7, 100, Idempotency_Key="k1")
        await scene.charge(7, 5)
        again = await scene.charge(7, 100, Idempotency_Key="k1")
        assert (again.status, again.json) == (200, first.json)
        assert again.headers["idempotent-replayed"] == "true"
        assert "idempotent-replayed" not in first.headers
        assert await scene.balance(7) == 105

    in_scene(play)


def test_a_charge_that_filled_the_wallet_is_answered_again_and_one_more_is_refused() -> None:
    async def play(scene: Scene) -> None:
        await scene.client.call("PUT", "/internal/v1/wallets/7", {"amount": BALANCE_MAX - 5})
        first = await scene.charge(7, 5, Idempotency_Key="k")
        again = await scene.charge(7, 5, Idempotency_Key="k")
        assert (first.status, again.status, again.json) == (200, 200, first.json)
        assert (await scene.charge(7, 1)).status == 422
        assert await scene.balance(7) == BALANCE_MAX

    in_scene(play)


def test_a_charge_is_not_refused_for_points_that_another_instance_has_spent_since() -> None:
    async def play() -> int:
        clock, metrics = LoopClock(), WalletMetrics()
        store = MemoryStore(clock)
        one, two = (WalletService(LedgerRepository(store, metrics, lambda _: None), clock, metrics) for _ in range(2))
        await one.open(7, BALANCE_MAX)
        await two.pay("r-1", 1, 7, 10, asked_ms=clock.now_ms())
        entry, _ = await one.charge(7, 1, IdempotencyKey("k", "digest", made=False))
        return entry.balance_after

    assert run_virtual(play()) == BALANCE_MAX - 9


def test_a_ledger_that_was_changed_behind_its_back_is_counted_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    async def play(scene: Scene) -> None:
        for user in range(1, 26):
            await scene.charge(user, 100)
            await scene.charge(user, 50)
        entries = scene.store.collection(ENTRIES)
        found = await entries.load("7:1")
        assert found is not None
        await scene.clock.sleep(60)
        assert await broken(scene) == 0
        await entries.swap("7:1", found.version, {**found.body, "amount": 1_000}, [])
        await scene.clock.sleep(60)
        assert await broken(scene) > 0

    in_scene(play)
    told = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {(line["user"], *line["entries"]) for line in told if line["level"] == "error"} == {(7, 2)}


async def broken(scene: Scene) -> float:
    text = (await scene.client.call("GET", "/metrics")).body.decode()
    (line,) = (line for line in text.splitlines() if line.startswith("stagedoor_wallet_ledger_breaks_total"))
    return float(line.split()[1])


def test_the_same_key_with_another_body_is_refused_and_changes_nothing() -> None:
    async def play(scene: Scene) -> None:
        await scene.charge(7, 100, Idempotency_Key="k1")
        assert (await scene.charge(7, 101, Idempotency_Key="k1")).code == "IDEMPOTENCY_MISMATCH"
        assert await scene.balance(7) == 100

    in_scene(play)


def test_the_same_key_of_another_user_is_another_charge() -> None:
    async def play(scene: Scene) -> None:
        await scene.charge(7, 100, Idempotency_Key="k1")
        assert (await scene.charge(8, 100, Idempotency_Key="k1")).json["amount"] == 100

    in_scene(play)


def test_a_twin_at_the_same_moment_is_told_to_wait() -> None:
    async def play(scene: Scene) -> None:
        twins = await asyncio.gather(*(scene.charge(7, 100, Idempotency_Key="k1") for _ in range(2)))
        assert sorted(twin.status for twin in twins) == [200, 409]
        assert await scene.balance(7) == 100

    in_scene(play)


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"userId": 7}, ["/point"]),
        ({"userId": True, "point": 1.0}, ["/userId", "/point"]),
        ({"userId": "7", "point": None}, ["/userId", "/point"]),
        ({"userId": 0, "point": -1}, ["/userId", "/point"]),
        ({"userId": 2**53, "point": 2**64}, ["/userId", "/point"]),
        ([], [""]),
    ],
)
def test_every_wrong_field_is_named_and_nothing_changes(body: Any, pointers: list[str]) -> None:
    async def play(scene: Scene) -> None:
        await scene.charge(7, 1)
        reply = await scene.client.call("PATCH", CHARGE, body)
        assert (reply.status, reply.code) == (422, "INVALID_FIELD")
        assert [error["pointer"] for error in reply.json["errors"]] == pointers
        assert await scene.balance(7) == 1

    in_scene(play)


def test_a_request_is_paid_once_however_often_and_wherever_it_arrives() -> None:
    async def play(scene: Scene) -> None:
        await scene.charge(7, 100)
        for times in range(1, 4):
            answers = await scene.tell(requested())
            # The one before may have been lost.
            assert [type(answer) for answer in answers] == [PaymentCompleted] * times
        assert await scene.balance(7) == 30

    in_scene(play)


def test_a_wallet_that_comes_back_answers_what_it_was_asked_over_and_over_once_in_each_copy() -> None:
    async def play(scene: Scene) -> None:
        await scene.charge(7, 100)
        paid = list(await scene.tell(requested(), times=20))
        assert {type(answer) for answer in paid} == {PaymentCompleted}
        assert 1 <= len(paid) <= 2
        back = (await scene.tell(cancelled(), times=20))[len(paid) :]
        assert {type(answer) for answer in back} == {PaymentRefunded}
        assert 1 <= len(back) <= 2
        assert await scene.balance(7) == 100

    in_scene(play)


def test_whoever_asked_before_the_answer_is_not_answered_again_though_it_comes_much_later() -> None:
    async def play(scene: Scene) -> None:
        await scene.charge(7, 100)
        begun_ms = scene.clock.now_ms()
        await scene.tell(requested(), cancelled())
        answers = [type(answer) for answer in scene.answers]
        assert await scene.balance(7) == 100
        await scene.tell(requested(at_ms=begun_ms - 1), cancelled(at_ms=begun_ms - 1))
        assert [type(answer) for answer in scene.answers] == answers
        await scene.clock.sleep(REMEMBERED_S)  # a clock that ran ahead is not believed for ever
        await scene.tell(cancelled(at_ms=begun_ms - 1))
        assert len(scene.answers) == len(answers) + 1

    in_scene(play)


@pytest.mark.parametrize(("asked_before_ms", "answers"), [(1_000, 2), (1_001, 1)])
def test_clocks_that_differ_by_no_more_than_is_allowed_take_nobodys_answer(asked_before_ms: int, answers: int) -> None:
    async def play() -> int:
        clock, metrics, told = LoopClock(), WalletMetrics(), list[Message]()
        ledger = LedgerRepository(MemoryStore(clock), metrics, told.extend)
        wallet = WalletService(ledger, clock, metrics, skew_ms=1_000)
        await wallet.open(7, 1000)
        began_ms = clock.now_ms()
        await wallet.pay("r-1", 1, 7, 70, asked_ms=began_ms)
        await clock.sleep(5)
        await wallet.pay("r-1", 1, 7, 70, asked_ms=began_ms - asked_before_ms)
        return len(told)

    assert run_virtual(play()) == answers


def test_a_declined_attempt_stays_declined_and_the_next_one_is_decided_afresh() -> None:
    async def play(scene: Scene) -> None:
        await scene.charge(7, 69)
        await scene.tell(requested(1))
        await scene.charge(7, 100)
        await scene.tell(requested(1))
        assert [type(answer) for answer in scene.answers] == [PaymentDeclined, PaymentDeclined]
        await scene.tell(requested(2))
        assert [(type(a), a.attempt) for a in scene.answers[2:]] == [(PaymentCompleted, 2)]
        assert await scene.balance(7) == 99

    in_scene(play)


def test_a_cancelled_payment_is_refunded_once() -> None:
    async def play(scene: Scene) -> None:
        await scene.charge(7, 100)
        await scene.tell(requested())
        for _ in range(5):
            await scene.tell(cancelled())
        refunds = [answer for answer in scene.answers if isinstance(answer, PaymentRefunded)]
        assert [refund.amount for refund in refunds] == [70] * 5
        assert await scene.balance(7) == 100

    in_scene(play)


def test_a_request_that_is_repeated_after_the_refund_is_not_told_as_paid() -> None:
    async def play(scene: Scene) -> None:
        await scene.charge(7, 100)
        for event in (requested(), cancelled(), requested()):
            await scene.tell(event)
        assert [type(answer) for answer in scene.answers] == [PaymentCompleted, PaymentRefunded, PaymentRefunded]
        assert await scene.balance(7) == 100

    in_scene(play)


def test_a_request_that_comes_after_its_cancellation_finds_the_tombstone() -> None:
    async def play(scene: Scene) -> None:
        await scene.charge(7, 100)
        await scene.tell(cancelled())
        await scene.tell(requested(), times=3)
        assert {type(answer) for answer in scene.answers} == {PaymentVoided}
        assert await scene.balance(7) == 100

    in_scene(play)


def test_the_cancellation_of_a_declined_attempt_is_answered_with_the_decline() -> None:
    async def play(scene: Scene) -> None:
        await scene.tell(requested())
        await scene.tell(cancelled())
        assert [type(answer) for answer in scene.answers] == [PaymentDeclined, PaymentDeclined]

    in_scene(play)


def test_the_ledger_is_paged_newest_first() -> None:
    async def play(scene: Scene) -> None:
        for point in (1, 2, 3, 4, 5):
            await scene.charge(7, point)
        first = (await scene.client.call("GET", "/api/v1/users/7/wallet/entries?limit=2")).json
        assert [entry["amount"] for entry in first["entries"]] == [5, 4]
        rest = f"/api/v1/users/7/wallet/entries?limit=9&before={first['nextBefore']}"
        second = (await scene.client.call("GET", rest)).json
        assert [entry["balanceAfter"] for entry in second["entries"]] == [6, 3, 1]
        assert second["nextBefore"] is None

    in_scene(play)


def test_an_opening_balance_is_given_once_and_never_on_top() -> None:
    async def play(scene: Scene) -> None:
        for _ in range(2):
            reply = await scene.client.call("PUT", "/internal/v1/wallets/7", {"amount": 500})
            assert (reply.status, reply.json["amount"]) == (200, 500)
        await scene.charge(8, 1)
        assert (await scene.other.call("PUT", "/internal/v1/wallets/8", {"amount": 500})).json["amount"] == 1

    in_scene(play)


def test_a_relay_that_fails_is_named_and_the_wallet_still_serves(capsys: pytest.CaptureFixture[str]) -> None:
    async def play(scene: Scene) -> None:
        async def on_publish(_instance: str, _messages: Sequence[Message]) -> Sequence[Message]:
            raise RuntimeError("a bug")

        ready = await scene.client.call("GET", "/readyz")
        assert (ready.status, ready.json["dependencies"]["outbox"]) == (200, "ok")
        told = to_message(requested(), "1", "test")
        await scene.bus.publish([told])
        scene.broker.on_publish = on_publish  # type: ignore[method-assign,assignment]
        await scene.clock.sleep(5)
        ready = await scene.client.call("GET", "/readyz")
        assert (ready.status, ready.json["dependencies"]["outbox"]) == (
            200,
            "outbox relay: publish: RuntimeError: a bug",
        )
        assert (await scene.charge(7, 100)).status == 200

    in_scene(play)
    assert "outbox: publish" in capsys.readouterr().out
