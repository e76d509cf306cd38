"""The control interface: the routes, fields, statuses and errors that clients of Toxiproxy 2 rely on."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from loadtest.chaos.proxy.control import Control

Client = TestClient[Any, Any]
SOMEWHERE = "127.0.0.1:1"
LATENCY = {"type": "latency", "attributes": {"latency": 100}}


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    control = Control()
    async with TestClient(TestServer(control.app())) as client:
        yield client
        await control.close()


@pytest.fixture
async def made(client: Client) -> dict[str, Any]:
    made: dict[str, Any] = await told(
        client, "POST", "/proxies", 201, name="redis", listen="127.0.0.1:0", upstream=SOMEWHERE
    )
    return made


async def told(client: Client, method: str, path: str, status: int, **body: Any) -> Any:
    """What the interface answered, with the status it must have."""
    async with client.request(method, path, json=body or None) as answer:
        assert answer.status == status, await answer.text()
        return None if status == 204 else await answer.json()


async def test_a_proxy_is_made_shown_and_deleted(client: Client, made: dict[str, Any]) -> None:
    host, _, port = made.pop("listen").rpartition(":")
    assert (host, int(port) > 0) == ("127.0.0.1", True)
    assert made == {"name": "redis", "upstream": SOMEWHERE, "enabled": True, "toxics": []}
    assert set(await told(client, "GET", "/proxies", 200)) == {"redis"}
    assert (await told(client, "GET", "/proxies/redis", 200))["listen"] == f"{host}:{port}"
    await told(client, "DELETE", "/proxies/redis", 204)
    assert await told(client, "GET", "/proxies/redis", 404) == {"error": "proxy not found", "status": 404}
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(host, int(port))


async def test_a_proxy_is_switched_off_and_led_elsewhere(client: Client, made: dict[str, Any]) -> None:
    off = await told(client, "POST", "/proxies/redis", 200, enabled=False)
    assert (off["enabled"], off["listen"]) == (False, made["listen"])
    moved = await told(client, "POST", "/proxies/redis", 200, enabled=True, upstream="127.0.0.1:2")
    assert (moved["enabled"], moved["listen"], moved["upstream"]) == (True, made["listen"], "127.0.0.1:2")


@pytest.mark.usefixtures("made")
async def test_a_toxic_is_added_changed_and_removed(client: Client) -> None:
    expected = {
        "name": "latency_downstream",
        "type": "latency",
        "stream": "downstream",
        "toxicity": 1.0,
        "attributes": {"latency": 100, "jitter": 0},
        "touched": 0,
    }
    assert await told(client, "POST", "/proxies/redis/toxics", 200, **LATENCY) == expected
    assert (await told(client, "GET", "/proxies/redis", 200))["toxics"] == [expected]
    assert await told(client, "GET", "/proxies/redis/toxics", 200) == [expected]
    path = "/proxies/redis/toxics/latency_downstream"
    changed = await told(client, "POST", path, 200, toxicity=0.5, attributes={"jitter": 7})
    assert (changed["toxicity"], changed["attributes"]) == (0.5, {"latency": 100, "jitter": 7})
    assert await told(client, "GET", path, 200) == changed
    await told(client, "DELETE", path, 204)
    assert await told(client, "DELETE", path, 404) == {"error": "toxic not found", "status": 404}


@pytest.mark.usefixtures("made")
async def test_reset_switches_everything_on_and_takes_all_toxics(client: Client) -> None:
    await told(client, "POST", "/proxies/redis/toxics", 200, **LATENCY)
    await told(client, "POST", "/proxies/redis", 200, enabled=False)
    await told(client, "POST", "/reset", 204)
    shown = await told(client, "GET", "/proxies/redis", 200)
    assert (shown["enabled"], shown["toxics"]) == (True, [])


async def test_the_version_is_one_that_clients_know(client: Client) -> None:
    assert (await told(client, "GET", "/version", 200))["version"].startswith("2.")


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/proxies", {"name": "redis", "listen": "127.0.0.1:0", "upstream": SOMEWHERE}, 409),
        ("/proxies", {"name": "other", "upstream": SOMEWHERE}, 400),
        ("/proxies", {"name": "other", "listen": "nowhere", "upstream": SOMEWHERE}, 400),
        ("/proxies", {"name": "other", "listen": "203.0.113.1:0", "upstream": SOMEWHERE}, 500),
        ("/proxies/nobody", {"enabled": False}, 404),
        ("/proxies/redis/toxics", {"type": "flood"}, 400),
        ("/proxies/redis/toxics", {"type": "latency", "stream": "sideways"}, 400),
        ("/proxies/redis/toxics", {"type": "latency", "toxicity": 1.5}, 400),
        ("/proxies/redis/toxics", {"type": "latency", "attributes": {"latency": -1}}, 400),
        ("/proxies/redis/toxics", {"type": "latency", "attributes": {"rate": 1}}, 400),
        ("/proxies/redis/toxics", {"type": "cut_reply", "stream": "upstream"}, 400),
        ("/proxies/redis/toxics", {"type": "latency", "name": "there"}, 409),
        ("/proxies/redis/toxics/nothing", {"toxicity": 1.0}, 404),
    ],
)
@pytest.mark.usefixtures("made")
async def test_what_cannot_be_is_refused_with_its_status(
    client: Client, path: str, body: dict[str, Any], status: int
) -> None:
    await told(client, "POST", "/proxies/redis/toxics", 200, name="there", **LATENCY)
    refused = await told(client, "POST", path, status, **body)
    assert refused["status"] == status
    assert refused["error"]


async def test_a_body_that_is_not_json_is_refused(client: Client) -> None:
    async with client.post("/proxies", data=b"{") as answer:
        assert answer.status == 400
