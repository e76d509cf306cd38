"""Which system `make audit` looks at, and by which rules it judges it."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from infra.local.control import Control
from infra.local.system import control_socket
from loadtest.audit.place import Place, find

RULES = {"CLOCK_SKEW_S": "2", "MAX_SEATS_PER_USER": "3", "STATIC_TOKENS": "theirs,another"}


@pytest.fixture
def sockets(tmp_path: Path) -> Path:
    """Where a system in `tmp_path` listens."""
    socket = control_socket(tmp_path)
    socket.parent.mkdir(parents=True, exist_ok=True)
    return socket


async def found(state_dir: Path, socket: Path, environment: Mapping[str, str]) -> Place:
    """What is found while a system runs in the folder, whose store is its `store`."""
    addresses = {"STORE_URL": f"sqlite:///{state_dir / 'store'}", "REDIS_URL": "redis://127.0.0.1:1", "BROKER_URL": ""}
    control = Control(cast("Any", SimpleNamespace(lives={})), addresses, RULES)
    await control.listen(socket)
    try:
        return await asyncio.to_thread(find, {"STATE_DIR": str(state_dir), **environment})
    finally:
        control.close()
        await asyncio.to_thread(socket.unlink)


async def test_a_running_system_is_judged_by_the_settings_that_it_was_started_with(
    tmp_path: Path, sockets: Path
) -> None:
    place = await found(tmp_path, sockets, {"MAX_SEATS_PER_USER": "50", "CLOCK_SKEW_S": "9", "STATIC_TOKENS": "mine"})
    assert place.is_running
    assert (place.reader.rules.seats_max, place.reader.rules.skew_ms, place.token) == (3, 2_000, "theirs")


async def test_a_store_that_is_named_is_looked_at_whatever_runs_here(tmp_path: Path, sockets: Path) -> None:
    other = tmp_path / "other"
    place = await found(tmp_path, sockets, {"STORE_URL": f"sqlite:///{other}", "MAX_SEATS_PER_USER": "50"})
    assert not place.is_running
    assert place.reader.rules.seats_max == 50
    own = await found(tmp_path, sockets, {"STORE_URL": f"sqlite:///{tmp_path / 'store'}"})
    assert own.is_running
