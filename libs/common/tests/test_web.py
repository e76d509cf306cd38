"""The web kit on a toy room: what every service's HTTP does whatever it serves."""

import asyncio
from typing import Annotated, Any

import pytest
from aiohttp import web
from pydantic import Field

from libs.common import trace
from libs.common.config import ServiceSettings
from libs.common.contract.operation import Model, Operation, PositiveInt
from libs.common.errors import DependencyDown, Overloaded, RequestInProgress
from libs.common.metrics import CommonMetrics
from libs.common.testing.app_client import Answered, AppClient
from libs.common.testing.virtual import LoopClock, run_virtual
from libs.common.web.admission import Admission, admission_from
from libs.common.web.app import HEALTH, METRICS, base_app, run_in
from libs.common.web.endpoints import Call, Endpoint, answer, bind
from libs.common.web.health import Health
from libs.common.web.idempotency import MARK_LAPSES_S, RunningWrites
from libs.common.web.upstream import ReplyLost
from libs.common.web.upstream_memory import MemoryUpstream

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Inner(Model):
    seat_id: PositiveInt


class Echo(Model):
    user_id: PositiveInt
    name: Annotated[str, Field(max_length=5)] = "-"
    inner: list[Inner] = []


class Page(Model):
    limit: Annotated[int, Field(ge=1, le=10)] = 3


WRITE = Operation("write", "toy", "POST", "/api/toy", "Write", success=201, body=Echo, answer=Echo)
READ = Operation("read", "toy", "GET", "/api/toy/{toyId}", "Read", query=Page, answer=Echo)
FAIL = Operation("fail", "toy", "GET", "/api/fail/{how}", "Fail")


async def write(call: Call[str]) -> web.Response:
    return answer(call.body, 201)


async def read(call: Call[str]) -> web.Response:
    return answer(Echo(user_id=call.integer("toyId"), name=str(call.query.limit)))


async def fail(call: Call[str]) -> web.Response:
    how = call.params["how"]
    if how == "slow":
        await asyncio.sleep(60)
    if how == "busy":
        raise Overloaded("Come back later.", retry_after_s=3)
    if how == "ticket":
        return web.Response(text=call.admission.ticket)
    raise RuntimeError("secret internals")


ENDPOINTS = (Endpoint(WRITE, write), Endpoint(READ, read), Endpoint(FAIL, fail))


def toy_app() -> web.Application:
    app = base_app(ServiceSettings(port=1), LoopClock(), CommonMetrics("toy"))
    bind(app, "service", ENDPOINTS)
    return app


def ask(method: str, path: str, json: Any = None, **options: Any) -> Answered:
    async def run() -> Answered:
        async with AppClient(toy_app()) as client:
            return await client.call(method, path, json, **options)

    return run_virtual(run())


def test_a_good_request_comes_through_with_camel_case_outside() -> None:
    reply = ask("POST", "/api/toy", {"userId": 7, "inner": [{"seatId": 1}], "unknown": 1})
    assert (reply.status, reply.json) == (201, {"userId": 7, "name": "-", "inner": [{"seatId": 1}]})


def test_every_wrong_field_is_named_by_its_pointer() -> None:
    reply = ask("POST", "/api/toy", {"userId": True, "name": "too long", "inner": [{"seatId": 1}, {"seatId": 0.5}]})
    assert reply.status == 422
    assert [error["pointer"] for error in reply.json["errors"]] == ["/userId", "/name", "/inner/1/seatId"]


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"", 400, "MALFORMED_REQUEST"),
        (b"{", 400, "MALFORMED_REQUEST"),
        (b"[" * 2000, 400, "MALFORMED_REQUEST"),
        (b'{"userId":' + b"[" * 40 + b"]" * 40 + b"}", 400, "MALFORMED_REQUEST"),
        (b'{"userId": NaN}', 400, "MALFORMED_REQUEST"),
        (b'{"userId": "\xff"}', 400, "MALFORMED_REQUEST"),
        (b'{"name": "\\ud800"}', 400, "MALFORMED_REQUEST"),
        (b"[]", 422, "INVALID_FIELD"),
        (b"null", 422, "INVALID_FIELD"),
        (b'{"userId": 18446744073709551616}', 422, "INVALID_FIELD"),
        (b'{"userId": 1, "name": "' + b"x" * 16384 + b'"}', 413, "BODY_TOO_LARGE"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_shape(raw: bytes, status: int, code: str) -> None:
    reply = ask("POST", "/api/toy", raw=raw)
    assert (reply.status, reply.code) == (status, code)
    assert reply.headers["content-type"] == "application/problem+json"
    assert set(reply.json) >= {"type", "title", "status", "detail", "instance", "code", "traceId"}


def test_a_field_has_no_second_name() -> None:
    assert ask("POST", "/api/toy", {"user_id": 7}).json["errors"][0]["pointer"] == "/userId"
    assert ask("POST", "/api/toy", {"userId": 7, "user_id": "ignored"}).json["userId"] == 7


def test_brackets_inside_strings_are_not_nesting() -> None:
    assert ask("POST", "/api/toy", {"userId": 1, "unknown": '[{"\\' * 50}).status == 201


def test_other_content_than_json_is_refused() -> None:
    reply = ask("POST", "/api/toy", raw=b"a=1", headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert (reply.status, reply.code) == (415, "UNSUPPORTED_MEDIA_TYPE")


def test_queries_and_paths_are_checked_like_bodies() -> None:
    assert ask("GET", "/api/toy/7?limit=4").json["name"] == "4"
    assert ask("GET", "/api/toy/7").json["name"] == "3"
    for wrong in ("0", "11", "x", "-1", "9" * 30):
        assert [e["pointer"] for e in ask("GET", f"/api/toy/7?limit={wrong}").json["errors"]] == ["query:limit"]
    for wrong in ("0", "x", "-1", "9007199254740992", "٣"):
        assert [e["pointer"] for e in ask("GET", f"/api/toy/{wrong}").json["errors"]] == ["path:toyId"]


def test_an_address_or_a_method_we_do_not_have() -> None:
    assert ask("GET", "/nothing").code == "ROUTE_NOT_FOUND"
    refused = ask("DELETE", "/api/toy")
    assert (refused.status, refused.headers["allow"]) == (405, "POST")


def test_a_problem_says_when_to_come_back() -> None:
    reply = ask("GET", "/api/fail/busy")
    assert (reply.status, reply.headers["retry-after"], reply.json["detail"]) == (503, "3", "Come back later.")


def test_a_bug_is_told_without_its_internals(capsys: pytest.CaptureFixture[str]) -> None:
    reply = ask("GET", "/api/fail/bug", headers={"traceparent": TRACE})
    assert (reply.status, reply.json["traceId"]) == (500, trace.trace_id(TRACE))
    assert b"secret" not in reply.body
    assert "secret internals" in capsys.readouterr().out


def test_a_request_ends_at_its_deadline() -> None:
    assert ask("GET", "/api/fail/slow").code == "DEPENDENCY_DOWN"


def test_what_needs_a_ticket_is_refused_without_one() -> None:
    assert ask("GET", "/api/fail/ticket").code == "TOKEN_MISSING"
    carried = Admission("t-1", room=2, sequence=9, ended=True).headers()
    assert ask("GET", "/api/fail/ticket", headers=carried).body == b"t-1"


def test_an_admission_survives_its_headers() -> None:
    inside, ended = Admission("t-1", 2, 9, until_ms=5_000), Admission("t-1", 2, 9, ended=True)
    for admission in (Admission("t-1", 2, 9), inside, ended, Admission("static")):
        assert admission_from(admission.headers()) == admission
    assert not inside.is_over(5_000 + 2 * 250, skew_ms=250)
    assert inside.is_over(5_001 + 2 * 250, skew_ms=250)
    assert Admission("static").may_enter(5)
    assert not Admission("t-1", 2, 9).may_enter(5)


def test_readiness_names_each_part_and_its_state() -> None:
    async def run() -> None:
        down = True

        async def store() -> None:
            if down:
                raise DependencyDown("disk is full")

        async def broker() -> None: ...

        async with AppClient(toy_app()) as client:
            client.app[HEALTH].watch("store", store)
            client.app[HEALTH].watch("broker", broker)
            reply = await client.call("GET", "/readyz")
            assert (reply.status, reply.json["dependencies"]) == (503, {"store": "disk is full", "broker": "ok"})
            down = False
            await asyncio.sleep(1)
            assert (await client.call("GET", "/readyz")).status == 200
            client.app[HEALTH].draining = True
            assert (await client.call("GET", "/readyz")).json["dependencies"]["process"] == "draining"

    run_virtual(run())


def test_a_crowd_of_probes_costs_one_ping_however_long_it_takes() -> None:
    async def run() -> None:
        clock, pings = LoopClock(), 0

        async def store() -> None:
            nonlocal pings
            pings += 1
            await clock.sleep(0.4)

        health = Health(clock, CommonMetrics("toy"))
        health.watch("store", store)
        assert await asyncio.gather(*(health.states() for _ in range(50))) == [{"store": "ok"}] * 50
        assert pings == 1

    run_virtual(run())


def test_whoever_asks_for_readiness_brings_what_is_shown_of_each_part_up_to_date() -> None:
    async def run() -> None:
        metrics, down = CommonMetrics("toy"), False

        async def store() -> None:
            if down:
                await asyncio.sleep(60)  # as a store that is cut off: no answer, and no refusal either

        health = Health(LoopClock(), metrics)
        health.watch("store", store)
        for down, up in ((False, 1), (True, 0), (False, 1)):  # noqa: B007  the ping reads it
            await asyncio.sleep(1)
            await health.states()
            assert metrics.registry.get_sample_value("stagedoor_dependency_up", {"dependency": "store"}) == up

    run_virtual(run())


def test_a_ping_that_is_broken_itself_counts_as_down_and_hides_no_other_part(
    capsys: pytest.CaptureFixture[str],
) -> None:
    faults: list[Exception] = []

    async def store() -> None:
        if faults:
            raise faults[0]

    async def broker() -> None: ...

    async def play() -> None:
        clock, metrics = LoopClock(), CommonMetrics("toy")
        health = Health(clock, metrics)
        health.watch("store", store)
        health.watch("broker", broker)
        assert await health.states() == {"store": "ok", "broker": "ok"}
        faults.append(RuntimeError("a bug"))
        await clock.sleep(1)
        states = await health.states()
        assert states == {"store": "The ping itself failed; the log says why.", "broker": "ok"}
        assert not health.is_ready(states)
        assert metrics.registry.get_sample_value("stagedoor_dependency_up", {"dependency": "store"}) == 0
        assert metrics.registry.get_sample_value("stagedoor_dependency_up", {"dependency": "broker"}) == 1

    run_virtual(play())
    assert "a bug" in capsys.readouterr().out


def test_requests_are_counted_by_template_and_status() -> None:
    async def run() -> None:
        async with AppClient(toy_app()) as client:
            for toy in (1, 2, 3):
                await client.call("GET", f"/api/toy/{toy}")
            await client.call("GET", "/anything")
            registry = client.app[METRICS].registry
            labels = {"method": "GET", "route": "/api/toy/{toyId}", "status": "200"}
            assert registry.get_sample_value("stagedoor_http_request_seconds_count", labels) == 3
            unmatched = {"method": "any", "route": "unmatched", "status": "404"}
            assert registry.get_sample_value("stagedoor_http_request_seconds_count", unmatched) == 1

    run_virtual(run())


def test_parts_start_in_order_and_stop_in_reverse() -> None:
    seen: list[str] = []

    class Noted:
        def __init__(self, name: str) -> None:
            self.name = name

        async def start(self) -> None:
            seen.append(f"+{self.name}")

        async def stop(self) -> None:
            seen.append(f"-{self.name}")

    async def run() -> None:
        app = toy_app()
        run_in(app, Noted("store"), Noted("bus"))
        async with AppClient(app):
            seen.append("serving")

    run_virtual(run())
    assert seen == ["+store", "+bus", "serving", "-bus", "-store"]


def test_a_caller_that_gives_up_does_not_stop_the_work() -> None:
    async def run() -> None:
        finished = asyncio.Event()

        async def slow(_: web.Request) -> web.Response:
            await asyncio.sleep(1)
            finished.set()
            return web.Response()

        app = toy_app()
        app.router.add_get("/slow", slow)
        async with AppClient(app):
            with pytest.raises(ReplyLost):
                await MemoryUpstream("toy", app).call("GET", "/slow", timeout_s=0.5)
            await asyncio.wait_for(finished.wait(), 5)

    run_virtual(run())


def test_a_service_that_is_down_carries_nothing_out() -> None:
    async def run() -> None:
        with pytest.raises(DependencyDown) as refused:
            await MemoryUpstream("toy").call("GET", "/", timeout_s=1)
        assert not isinstance(refused.value, ReplyLost)

    run_virtual(run())


def test_a_running_write_keeps_its_twin_out_until_it_ends_or_its_mark_lapses() -> None:
    async def run() -> None:
        running = RunningWrites(LoopClock())
        with running.mark(7, "hold", "k"):
            with pytest.raises(RequestInProgress), running.mark(7, "hold", "k"):
                pass
            with running.mark(8, "hold", "k"), running.mark(7, "pay", "k"):
                pass
            await asyncio.sleep(MARK_LAPSES_S)
            with running.mark(7, "hold", "k"):
                pass
        with running.mark(7, "hold", "k"):
            pass

    run_virtual(run())
