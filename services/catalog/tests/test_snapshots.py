"""A round of snapshots, on its own: each schedule is merged before the round counts as over."""

import asyncio
from collections.abc import Sequence

import pytest

from libs.common.errors import DependencyDown
from libs.common.testing.virtual import LoopClock, run_virtual
from services.catalog.domain import SeatState
from services.catalog.metrics import CatalogMetrics
from services.catalog.service.snapshots import BITE_COUNT_MAX, Snapshots
from services.catalog.service.view import View


class FewSchedules:
    """Knows the schedules that one bite takes."""

    async def schedule_ids(self) -> list[int]:
        return list(range(1, BITE_COUNT_MAX + 1))


class SlowNews:
    """Takes a second for each schedule; the first seat of every one is sold. `down`: it refuses."""

    down = False

    async def touched(self, schedule: int) -> Sequence[tuple[int, int, SeatState]]:
        if self.down:
            raise DependencyDown("The reservation service is gone.")
        await asyncio.sleep(1)
        return [(schedule, 1, "sold")]


def test_a_bite_that_was_cut_off_leaves_out_no_schedule() -> None:
    async def play() -> None:
        metrics = CatalogMetrics()
        view, library = View(metrics), FewSchedules()
        snapshots = Snapshots(SlowNews(), library, view, LoopClock(), metrics, every_s=30)  # type: ignore[arg-type]
        cut_off = asyncio.create_task(snapshots.bite())
        await asyncio.sleep(2.5)
        cut_off.cancel()
        await asyncio.wait([cut_off])
        while await snapshots.bite():
            pass
        await snapshots.ping()
        assert [schedule for schedule in await library.schedule_ids() if not view.of(schedule).taken] == []

    run_virtual(play())


def test_the_age_of_the_last_round_grows_while_rounds_fail_and_falls_with_the_next_whole_one() -> None:
    async def play() -> None:
        metrics, news = CatalogMetrics(), SlowNews()
        snapshots = Snapshots(news, FewSchedules(), View(metrics), LoopClock(), metrics, every_s=30)  # type: ignore[arg-type]

        def age_s() -> float:
            age = metrics.registry.get_sample_value("stagedoor_catalog_snapshot_age_seconds")
            assert age is not None
            return age

        assert age_s() == float("inf")
        await snapshots.bite()
        assert age_s() < 1
        news.down = True
        await asyncio.sleep(61)
        with pytest.raises(DependencyDown):
            await snapshots.bite()
        assert age_s() > 60
        news.down = False
        await snapshots.after_gap()
        assert age_s() < 1

    run_virtual(play())
