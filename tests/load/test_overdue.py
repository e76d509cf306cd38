"""A generator that is overdue is asked to end, so that what it saw last is kept."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.arrivals import Ramp
from loadtest.engines.k6 import K6
from loadtest.engines.locust import Locust
from loadtest.engines.ports import STOP_TIMEOUT_S, Engine
from loadtest.plan import Plan
from tests.load.stub import Quiet, serving

PLAN = Plan("booking", (Ramp(1.0, 40.0), Ramp(600.0, 40.0)), 1, 1, 1.0, False, 1, "", None)
"""Of one user, so that no more than one request is under way when it is asked to end."""

SEEN_COUNT, SEEN_S = 100, 60.0
"""So many requests are waited for, for so long at most."""


class Refuses(Quiet):
    """Refuses every request at once."""

    answered = 0

    def do_GET(self) -> None:  # noqa: N802 (the names are those of http.server)
        type(self).answered += 1
        self.send_error(500)


@pytest.fixture
def url() -> Iterator[str]:
    Refuses.answered = 0
    with serving(Refuses) as where:
        yield where


@pytest.mark.parametrize(
    "name",
    ["locust", pytest.param("k6", marks=pytest.mark.skipif(shutil.which("k6") is None, reason="k6 is not on PATH"))],
)
def test_what_an_overdue_generator_saw_is_kept_to_the_last_request(name: str, url: str, tmp_path: Path) -> None:
    engine: Engine = K6("booking") if name == "k6" else Locust()
    run = engine.start(PLAN, url, tmp_path)
    try:
        give_up_s = time.monotonic() + SEEN_S
        while Refuses.answered < SEEN_COUNT and time.monotonic() < give_up_s:
            time.sleep(0.05)
        asked_s = time.monotonic()
        seen = run.finish()
    finally:
        run.kill()
    assert time.monotonic() - asked_s < STOP_TIMEOUT_S / 2
    assert not run.is_running()
    assert Refuses.answered >= SEEN_COUNT
    assert 0 <= Refuses.answered - seen.counts["requests"] <= 1
    assert seen.failures.total() == seen.counts["requests"]
