"""Passing on: what reaches a service, what comes back, what is sent again."""

import asyncio
from typing import Any

import pytest

from libs.common.contract import catalog, queue, reservation, wallet
from libs.common.web.upstream import Reply
from services.gateway.service.guarded import BUDGET_MAX, RETRIES_MAX
from services.gateway.service.route_table import ANSWERED_HERE, forwarded_routes
from services.gateway.tests.scene import Scene, lost, play, problem, refused, reply

HOLD = ("POST", "/concert/reservation", "test-token")
CHARGE = ("PATCH", "/users/charge/point")
WALLET = ("GET", "/users/7/wallet")


def test_every_public_operation_has_exactly_one_place_to_be_answered() -> None:
    public = {o.id for room in (queue, catalog, reservation, wallet) for o in room.OPERATIONS if o.is_public}
    forwarded = [route.operation.id for route in forwarded_routes(2)]
    here = [operation.id for operation in ANSWERED_HERE]
    assert sorted(forwarded + here) == sorted(public)


def test_an_internal_route_is_not_there() -> None:
    async def part(scene: Scene) -> None:
        for method, path in (("GET", "/internal/v1/rooms"), ("GET", "/metrics"), ("PUT", "/internal/v1/wallets/7")):
            assert (await scene.client.call(method, path)).code == "ROUTE_NOT_FOUND"

    play(part)


def test_path_query_and_body_arrive_as_they_were_sent() -> None:
    async def part(scene: Scene) -> None:
        await scene.call("GET", "/users/7/wallet/entries?limit=2&before=%20")
        assert scene.wallet.sent[0].path == "/api/v1/users/7/wallet/entries?limit=2&before=%20"
        await scene.call("GET", "/payment/a%2Fb%20c", "test-token")
        assert scene.reservation.sent[0].path == "/api/v1/payment/a%2Fb%20c"
        await scene.call(*CHARGE, raw=b' {"userId" : 7} ', headers={"Content-Type": "text/x"})
        assert (scene.wallet.sent[1].body, scene.wallet.sent[1].headers["Content-Type"]) == (
            b' {"userId" : 7} ',
            "text/x",
        )

    play(part)


def test_only_known_headers_reach_a_service() -> None:
    async def part(scene: Scene) -> None:
        noise = {"Cookie": "a=b", "Authorization": "x", "X-Forwarded-For": "1.1.1.1", "Host": "evil", "Connection": "x"}
        await scene.call(*CHARGE, json={}, headers={**noise, "Idempotency-Key": "k1"})
        assert scene.wallet.sent[0].headers == {"Content-Type": "application/json", "Idempotency-Key": "k1"}

    play(part)


def test_only_known_headers_come_back() -> None:
    async def part(scene: Scene) -> None:
        told = {
            "Location": "/x",
            "Retry-After": "3",
            "Idempotent-Replayed": "true",
            "ETag": '"1"',
            "Cache-Control": "no-store",
        }
        inner = {"Set-Cookie": "a=b", "Server": "inner", "Connection": "close", "Content-Length": "999"}
        lower = {name.lower(): value for name, value in {**told, **inner}.items()}
        scene.reservation.script = [Reply(202, {**lower, "content-type": "application/json"}, b"{}")]
        answered = await scene.call("POST", "/payment", "test-token", {})
        assert (answered.status, answered.body) == (202, b"{}")
        assert {name: answered.headers.get(name.lower()) for name in told} == told
        assert {"set-cookie", "server", "connection"} & set(answered.headers) == set()

    play(part)


@pytest.mark.parametrize(
    "told", [problem(409, "SEAT_TAKEN"), problem(402, "NOT_ENOUGH_POINTS"), problem(500, "INTERNAL"), reply(204)]
)
def test_whatever_a_service_answers_is_passed_on_unchanged_and_not_asked_again(told: Reply) -> None:
    async def part(scene: Scene) -> None:
        scene.reservation.script = [told]
        answered = await scene.call(*HOLD, {})
        assert (answered.status, answered.body) == (told.status, told.body)
        assert answered.headers["content-type"] == told.headers["content-type"]
        assert len(scene.reservation.sent) == 1

    play(part)


@pytest.mark.parametrize("failure", [lost(), refused()])
def test_a_write_without_a_reply_is_sent_again_under_one_key(failure: Exception) -> None:
    async def part(scene: Scene) -> None:
        scene.reservation.script = [failure] * RETRIES_MAX
        assert (await scene.call(*HOLD, raw=b'{"x":1}')).status == 200
        sent = scene.reservation.sent
        assert len(sent) == 1 + RETRIES_MAX
        assert len({each.headers["Idempotency-Key"] for each in sent}) == 1
        assert {each.headers["X-Idempotency-Key-Made"] for each in sent} == {"1"}
        assert {each.body for each in sent} == {b'{"x":1}'}

    play(part)


def test_two_writes_without_a_key_get_different_ones() -> None:
    async def part(scene: Scene) -> None:
        await scene.call(*HOLD, {})
        await scene.call(*HOLD, {})
        assert len({sent.headers["Idempotency-Key"] for sent in scene.reservation.sent}) == 2

    play(part)


def test_a_key_of_the_client_is_passed_on_and_is_not_marked_as_made() -> None:
    async def part(scene: Scene) -> None:
        marked = {"Idempotency-Key": "k1", "X-Idempotency-Key-Made": "1"}
        await scene.call(*HOLD, {}, headers=marked)
        headers = scene.reservation.sent[0].headers
        assert headers["Idempotency-Key"] == "k1"
        assert "X-Idempotency-Key-Made" not in headers

    play(part)


@pytest.mark.parametrize("key", ["", " ", "x" * 65, "a b", "ключ"])
def test_a_key_that_cannot_be_used_is_refused_before_anything_is_sent(key: str) -> None:
    async def part(scene: Scene) -> None:
        for method, path in (HOLD[:2], CHARGE, ("POST", "/token/create")):
            answered = await scene.call(method, path, "test-token", {}, headers={"Idempotency-Key": key})
            assert (answered.status, answered.code) == (422, "INVALID_FIELD")
        assert scene.reservation.sent + scene.wallet.sent + scene.queue.sent == []

    play(part)


def test_reads_are_sent_again_too_and_given_up_after_two_retries() -> None:
    async def part(scene: Scene) -> None:
        scene.wallet.usual = lost()
        answered = await scene.call(*WALLET)
        assert (answered.status, answered.code) == (503, "DEPENDENCY_DOWN")
        assert answered.headers["retry-after"] == "1"
        assert len(scene.wallet.sent) == 1 + RETRIES_MAX

    play(part)


def test_all_tries_together_take_no_longer_than_one_may() -> None:
    async def part(scene: Scene) -> None:
        async def never() -> Reply:
            await asyncio.sleep(60)
            return reply()

        scene.wallet.usual = scene.reservation.usual = never
        calls: list[tuple[tuple[Any, ...], float]] = [
            (WALLET, 2),
            (HOLD, 3),
            (("POST", "/payment", "test-token"), 2.5 + 3),
        ]
        for call, timeout_s in calls:
            began_s = scene.clock.monotonic_s()
            assert (await scene.call(*call)).code == "DEPENDENCY_DOWN"
            assert scene.clock.monotonic_s() - began_s == pytest.approx(timeout_s)

    play(part, pay_wait_s=2.5)


def test_a_connection_that_broke_late_is_tried_again_with_the_time_that_is_left() -> None:
    async def part(scene: Scene) -> None:
        async def breaks() -> Reply:
            await asyncio.sleep(1.5)
            raise lost()

        scene.wallet.script = [breaks]
        assert (await scene.call(*WALLET)).status == 200
        assert scene.wallet.sent[1].timeout_s < 0.5

    play(part)


def test_retries_of_a_service_that_loses_many_replies_stay_a_tenth_of_its_calls() -> None:
    async def part(scene: Scene) -> None:
        # More than half of the calls must succeed, or the breaker ends the experiment.
        calls = 600
        for number in range(calls):
            scene.wallet.script = [lost(), lost(), lost()] if number % 6 == 0 else [reply()]
            await scene.call(*WALLET)
            await scene.clock.sleep(0.5)
        sent_again = scene.sample("retries_total", upstream="wallet", outcome="sent")
        assert BUDGET_MAX <= sent_again <= BUDGET_MAX + calls / 10
        assert scene.sample("retries_total", upstream="wallet", outcome="no_budget") > 0

    play(part)


def test_the_trace_of_a_request_is_in_its_problem() -> None:
    async def part(scene: Scene) -> None:
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        answered = await scene.call("GET", "/token", headers={"traceparent": trace})
        assert (answered.code, answered.json["traceId"]) == ("TOKEN_MISSING", trace[3:35])

    play(part)


def test_wrong_addresses_methods_sizes_and_packings() -> None:
    async def part(scene: Scene) -> None:
        assert (await scene.call("GET", "/nothing")).code == "ROUTE_NOT_FOUND"
        wrong = await scene.call("PUT", "/payment")
        assert (wrong.status, wrong.code, wrong.headers["allow"]) == (405, "METHOD_NOT_ALLOWED", "POST")
        both = await scene.call("PUT", "/token")
        assert (both.status, both.headers["allow"]) == (405, "DELETE, GET")
        large = await scene.call(*HOLD, raw=b"x" * (16 * 1024 + 1))
        assert (large.status, large.code) == (413, "BODY_TOO_LARGE")
        packed = await scene.call(*HOLD, raw=b"x", headers={"Content-Encoding": "gzip"})
        assert (packed.status, packed.code) == (415, "UNSUPPORTED_MEDIA_TYPE")
        for route in (HOLD, ("POST", "/token/create")):
            for beyond_ascii in ("\udcff", "a/\udcff"):
                odd = await scene.call(*route, raw=b"x", headers={"Content-Type": beyond_ascii})
                assert (odd.status, odd.code) == (415, "UNSUPPORTED_MEDIA_TYPE")
        assert scene.reservation.sent == []

    play(part)
