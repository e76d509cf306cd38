"""A cycle bites in its rhythm, follows up at once when it hit its bound, and outlives its failures."""

import asyncio

import pytest

from libs.common.errors import DependencyDown
from libs.common.jobs import BACKOFF_MAX_S, BITE_TIMEOUT_S, Cycle, each
from libs.common.metrics import CommonMetrics
from libs.common.testing.virtual import LoopClock, run_virtual


def bites_at(outcomes: list[object], run_s: float) -> tuple[list[float], CommonMetrics]:
    """Run a 1 s cycle whose bites do what `outcomes` says, then nothing; when each bite began."""
    metrics = CommonMetrics("test")
    began: list[float] = []

    async def run() -> None:
        clock = LoopClock()
        todo = list(outcomes)

        async def bite() -> bool:
            began.append(clock.monotonic_s())
            outcome = todo.pop(0) if todo else False
            if isinstance(outcome, Exception):
                raise outcome
            if outcome == "hang":
                await asyncio.sleep(3600)
            return bool(outcome)

        cycle = Cycle("test", 1.0, bite, clock, metrics)
        await cycle.start()
        await asyncio.sleep(run_s)
        await cycle.stop()

    run_virtual(run())
    return began, metrics


def count(metrics: CommonMetrics, outcome: str) -> float | None:
    return metrics.registry.get_sample_value("stagedoor_job_runs_total", {"job": "test", "outcome": outcome})


def test_it_bites_once_a_period() -> None:
    began, metrics = bites_at([], run_s=3.5)
    assert began == [0, 1, 2, 3]
    assert count(metrics, "done") == 4


def test_a_bite_that_hit_its_bound_is_followed_at_once() -> None:
    began, metrics = bites_at([True, True], run_s=1.5)
    assert began == [0, 0, 0, 1]
    assert count(metrics, "bound") == 2


def test_failures_back_off_and_end(capsys: pytest.CaptureFixture[str]) -> None:
    began, metrics = bites_at([DependencyDown("no"), RuntimeError("bug")], run_s=8)
    assert began == [0, 2, 6, 7]
    assert count(metrics, "failed") == 2
    assert "bug" in capsys.readouterr().out


def test_it_bites_again_after_an_outage_of_hours() -> None:
    _, metrics = bites_at([DependencyDown("no")] * 1_100, run_s=1_100 * BACKOFF_MAX_S)
    assert count(metrics, "failed") == 1_100
    assert (count(metrics, "done") or 0) > 0


def test_a_bite_that_hangs_is_given_up() -> None:
    began, _ = bites_at(["hang"], run_s=BITE_TIMEOUT_S + 3)
    assert began[:2] == [0, BITE_TIMEOUT_S + 2]


def test_what_fails_keeps_nothing_else_waiting_and_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    done: list[int] = []

    async def act(item: int) -> None:
        await asyncio.sleep(0.1)
        if item == 0:
            raise RuntimeError("a broken document")
        done.append(item)

    async def run() -> None:
        assert await each(range(1, 4), act, 2)
        assert not await each(range(4), act, 2)
        assert done == [1, 2, 3] * 2
        assert await each([], act, 2)

    run_virtual(run())
    assert "a broken document" in capsys.readouterr().out


def test_where_nothing_goes_well_the_bite_has_failed() -> None:
    async def act(item: int) -> None:
        raise DependencyDown(f"no {item}")

    with pytest.raises(DependencyDown, match="no 1"):
        run_virtual(each([1, 2], act, 1))
