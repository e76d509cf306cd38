"""The gateway as a process: when it is ready, what its ports show."""

import asyncio
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from libs.common.errors import ConfigError
from libs.common.events.queue import LineMoved
from libs.common.messaging.memory import MemoryBus
from libs.common.messaging.ports import Handler, OnGap
from libs.common.testing.virtual import LoopClock, run_virtual
from services.gateway.app import create_app
from services.gateway.service.lines import READ_EVERY_S
from services.gateway.settings import GatewaySettings
from services.gateway.tests.scene import CODEC, KEYS, Scene, play

PARTS = {"broker", "line", "queue", "catalog", "reservation", "wallet"}


def test_it_is_ready_when_the_lines_are_read_and_everyone_has_answered() -> None:
    async def part(scene: Scene) -> None:
        for client in (scene.client, scene.admin):
            answered = await client.call("GET", "/readyz")
            assert (answered.status, answered.json["dependencies"]) == (200, dict.fromkeys(PARTS, "ok"))

    play(part)


@pytest.mark.parametrize("name", ["queue", "catalog", "reservation", "wallet"])
def test_it_does_not_become_ready_before_every_service_has_answered_once(name: str) -> None:
    async def run() -> None:
        scene = Scene(GatewaySettings(ticket_keys=KEYS))
        service = getattr(scene, name)
        service.is_down = True
        async with scene.live():
            answered = await scene.client.call("GET", "/readyz")
            assert answered.status == 503
            assert answered.json["dependencies"][name] == "The service cannot be reached."
            service.is_down = False
            await scene.clock.sleep(5)
            assert (await scene.client.call("GET", "/readyz")).status == 200

    run_virtual(run())


@pytest.mark.parametrize("name", ["queue", "catalog", "reservation", "wallet"])
def test_a_service_that_goes_away_later_is_named_and_takes_only_its_own_routes_along(name: str) -> None:
    async def part(scene: Scene) -> None:
        assert (await scene.client.call("GET", "/readyz")).status == 200
        getattr(scene, name).is_down = True
        await scene.clock.sleep(5)
        answered = await scene.client.call("GET", "/readyz")
        assert (answered.status, answered.json["dependencies"][name]) == (200, "The service cannot be reached.")

    play(part)


def test_without_the_broker_it_never_becomes_ready_and_one_that_goes_away_later_is_named() -> None:
    async def run() -> None:
        scene = Scene(GatewaySettings(ticket_keys=KEYS))
        async with scene.live():
            scene.broker.down = True
            answered = await scene.client.call("GET", "/readyz")
            assert (answered.status, answered.json["dependencies"]["line"]) == (503, "ok")
            scene.broker.down = False
            await scene.clock.sleep(1)
            assert (await scene.client.call("GET", "/readyz")).status == 200
            scene.broker.down = True
            await scene.clock.sleep(1)
            answered = await scene.client.call("GET", "/readyz")
            assert answered.status == 200
            assert answered.json["dependencies"]["broker"] != "ok"

    run_virtual(run())


def test_a_tick_between_listening_and_reading_the_rooms_is_not_lost() -> None:
    async def run() -> None:
        scene = Scene(GatewaySettings(ticket_keys=KEYS))
        scene.queue.answer_s = 0.05
        async with scene.client, scene.admin:
            await scene.clock.sleep(0.01)
            await scene.move_line(50)
            scene.queue.watermark = 20
            await scene.clock.sleep(1)
            assert (await scene.poll(CODEC.sign(1, 60)))["position"] == 10

    run_virtual(run())


def test_the_rooms_are_read_only_after_listening_has_begun() -> None:
    class SlowBus(MemoryBus):
        async def listen(self, topic: str, handler: Handler, on_gap: OnGap) -> None:
            await asyncio.sleep(5)
            assert scene.queue.sent == []
            await super().listen(topic, handler, on_gap)

    scene: Scene

    async def run() -> None:
        nonlocal scene
        scene = Scene(GatewaySettings(ticket_keys=KEYS), bus_type=SlowBus)
        async with scene.client:
            await scene.clock.sleep(0.1)
            assert scene.queue.count("GET", "/internal/v1/rooms") == 1

    run_virtual(run())


def test_a_line_nobody_speaks_of_grows_old_although_the_rooms_are_read() -> None:
    async def part(scene: Scene) -> None:
        await scene.move_line(5)
        await scene.clock.sleep(3 * READ_EVERY_S)
        assert scene.queue.count("GET", "/internal/v1/rooms") >= 2
        assert scene.sample("line_age_seconds") >= 3 * READ_EVERY_S

    play(part)


def test_a_room_that_is_kept_no_longer_is_forgotten_and_nobody_is_paged_for_its_silence() -> None:
    async def part(scene: Scene) -> None:
        ticket = CODEC.sign(2, 7)
        await scene.tell(LineMoved(2, 1, 1, 0, 7, 0.0, "open", scene.clock.now_ms()))
        assert (await scene.poll(ticket))["position"] == 7
        await scene.clock.sleep(2 * READ_EVERY_S)
        await scene.move_line(5)
        assert scene.sample("line_age_seconds") < 1
        assert (await scene.call("GET", "/token", ticket)).code == "ROOM_NOT_FOUND"

    play(part)


def test_metrics_are_on_the_inner_port_only() -> None:
    async def part(scene: Scene) -> None:
        assert (await scene.client.call("GET", "/metrics")).code == "ROUTE_NOT_FOUND"
        await scene.poll("test-token")
        page = (await scene.admin.call("GET", "/metrics")).body
        assert b"stagedoor_gateway_line_age_seconds" in page
        assert b'route="/api/v1/token"' in page

    play(part)


def test_the_documentation_is_valid_and_names_every_route() -> None:
    described: dict[str, Any] = {}

    async def part(scene: Scene) -> None:
        described.update((await scene.client.call("GET", "/openapi.json")).json)
        page = await scene.client.call("GET", "/docs")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in page.headers["content-security-policy"]
        for path in described["paths"]:
            assert path.encode() in page.body
        assert b"<script" not in page.body
        assert b"http://" not in page.body
        assert b"https://" not in page.body

    play(part)
    assert list(OpenAPIV31SpecValidator(described).iter_errors()) == []


def test_static_tokens_are_announced_loudly_and_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    play(lambda scene: scene.clock.sleep(0), static_tokens="secret-one, ,secret-two")
    told = capsys.readouterr().out
    assert "STATIC_TOKENS IS SET" in told
    assert '"tokens": 2' in told
    assert "secret" not in told


def test_without_keys_it_does_not_start_and_names_the_setting() -> None:
    with pytest.raises(ConfigError, match="TICKET_KEYS"):
        create_app(GatewaySettings(), clock=LoopClock())
