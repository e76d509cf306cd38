"""A real Prometheus scrapes the running system under the rules it has in production; every panel then has data."""

import asyncio
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import yaml

from infra.grafana.__main__ import files
from infra.local.settings import METRICS_PORTS
from infra.prometheus.tests.promql import ROOT, RULES, program
from libs.common.testing.eventually import eventually
from tests.buyer import SEAT_PRICE, Buyer
from tests.e2e.system import RunningSystem

pytestmark = pytest.mark.e2e

FOLDER = ROOT / "infra/prometheus"
WINDOW = "20s"
WITHIN_S = 45.0
LOOK_S = 0.5

STARTING = 503
"""What Prometheus answers from when it listens until it has read what it stored."""
"""Between two looks: a scrape is a second."""

NEEDS_A_FAULT = {
    "Failed requests": "nothing answers with a 5xx while all is well",
}


@pytest.fixture
def prometheus(system: RunningSystem, tmp_path: Path) -> Iterator[str]:
    """The address of a Prometheus of this test's own."""
    binary = program("prometheus")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    options = [
        f"--config.file={_config(system.port, tmp_path)}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [binary, *options], cwd=tmp_path, stdout=log, stderr=log, env={**os.environ, "GOMAXPROCS": "1"}
        )
        yield f"http://{address}"
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _config(port: int, folder: Path) -> Path:
    """The configuration of production, with this system's addresses and a faster clock."""
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"] = [
        {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port + offset}"]}]}
        for job, offset in METRICS_PORTS.items()
    ]
    config["rule_files"] = [str(folder / path.name) for path in RULES]
    for path in RULES:
        (folder / path.name).write_text(path.read_text().replace("interval: 15s", "interval: 1s"))
    written = folder / "prometheus.yml"
    written.write_text(yaml.safe_dump(config))
    return written


async def _some_purchases(newcomer: Buyer, seats: list[int], number: int) -> None:
    """What brings every series about: a wait, a seat that is taken, a payment that is declined, and one that is not."""
    await newcomer.join()

    async def is_inside() -> bool:
        return await newcomer.position() == 0

    await eventually(is_inside, within_s=10)
    assert await newcomer.schedules()
    assert await newcomer.seats(number)
    held = (await newcomer.hold(number, seats)).json["id"]
    assert (await Buyer(newcomer.caller, user=newcomer.user + 1).hold(number, seats)).status == 409
    assert (await newcomer.charge(1)).status == 200
    assert (await newcomer.pay(held)).status == 402
    assert (await newcomer.charge(len(seats) * SEAT_PRICE)).status == 200
    assert (await newcomer.pay(held)).status == 200


async def test_every_panel_shows_something(
    prometheus: str, newcomer: Buyer, number: int, session: aiohttp.ClientSession
) -> None:
    boards: list[dict[str, Any]] = [orjson.loads(content) for content in files().values()]
    empty = {
        (board["title"], panel["title"], target["expr"])
        for board in boards
        for panel in board["panels"]
        for target in panel.get("targets", ())
        if panel["title"] not in NEEDS_A_FAULT
    }

    async def answers(expr: str) -> bool:
        asked = {"query": expr.replace("$__rate_interval", WINDOW)}
        try:
            async with session.get(f"{prometheus}/api/v1/query", params=asked) as reply:
                if reply.status == STARTING:
                    return False
                told = await reply.json()
        except aiohttp.ClientConnectionError:
            return False
        assert told["status"] == "success", (expr, told)
        return bool(told["data"]["result"])

    async def all_show_something() -> bool:
        nonlocal empty
        empty = {panel for panel in empty if not await answers(panel[2])}
        if empty:
            await asyncio.sleep(LOOK_S)
        return not empty

    await _some_purchases(newcomer, [1, 2], number)
    try:
        await eventually(all_show_something, within_s=WITHIN_S, message="every panel showing something")
    except AssertionError:
        pytest.fail(f"nothing to see after {WITHIN_S:g} s: {sorted(empty)}")
