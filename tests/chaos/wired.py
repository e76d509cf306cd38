"""A wired system for the time of a block, and the environment in which actions find it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.local.settings import PORTS_PER_COPY
from loadtest.chaos.target import WIRED
from loadtest.fresh_system import FreshSystem, ports_in_a_row

USUAL = {"DEMO_USERS": "50", "DEMO_SCHEDULES": "2", "CLOCK_SKEW_S": "0"}


@contextmanager
def wired_system(**environment: str) -> Iterator[Path]:
    """Gives its STATE_DIR."""
    port = ports_in_a_row(PORTS_PER_COPY)
    with pytest.MonkeyPatch.context() as ours:
        for name in ("BROKER_URL", "STORE_URL", "REDIS_URL", "CHAOS_CONTROL"):
            ours.delenv(name, raising=False)
        with FreshSystem({**USUAL, **environment}, port=port, command=WIRED) as system:
            ours.setenv("STATE_DIR", system.variables["STATE_DIR"])
            yield Path(system.variables["STATE_DIR"])
