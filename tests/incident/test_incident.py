"""The benchmark of the incident: a small run of it, and that its verdict can fall."""

from dataclasses import replace

import pytest

from infra.local.redis_server import find_redis_server
from libs.common.errors import ConfigError
from loadtest.incident.parallel import run_all
from loadtest.incident.rivals import RIVALS
from loadtest.incident.sale import EXPIRING, GONE, MOMENTS, STORE_DOWN, WARM, Figures, Plan
from loadtest.incident.store import READ_S, Fills
from loadtest.incident.verdict import misses, side_by_side
from services.catalog.service.cache import Lifetime

SMALL = Plan(
    readers=600,
    schedules=5,
    seats=50,
    read_s=READ_S,
    life=Lifetime(ttl_s=1.5, stale_s=60, absent_ttl_s=1),
    moments_s={WARM: 0.5, EXPIRING: 3.0, STORE_DOWN: 2.5, GONE: 1.5},
)
KEPT = Figures(
    reads=1000,
    p50_ms=0.1,
    p95_ms=0.2,
    p99_ms=0.3,
    max_ms=5.0,
    failed=0,
    unanswered=0,
    loads=20,
    fill_mean=1.0,
    fill_most=1,
)


@pytest.mark.redis
def test_600_readers_drown_the_store_behind_a_plain_cache_and_do_not_notice_behind_ours() -> None:
    try:
        find_redis_server()
    except ConfigError as none:
        pytest.skip(str(none))
    figures = run_all(SMALL)
    off, ours = figures["off"], figures["ours"]
    assert off[EXPIRING].fill_most >= 5
    assert off[EXPIRING].p99_ms >= READ_S * 1000
    assert off[STORE_DOWN].failed > 0
    assert misses(ours, SMALL) == []


@pytest.mark.parametrize(
    ("moment", "figures", "told"),
    [
        (STORE_DOWN, replace(KEPT, failed=1), "store down: 1 reads failed and 0 were not answered"),
        (GONE, replace(KEPT, unanswered=2), "all gone: 0 reads failed and 2 were not answered"),
        (GONE, replace(KEPT, fill_most=2), "all gone: one fill of a key took 2 loads in one process"),
        (EXPIRING, replace(KEPT, p95_ms=51.0), "expiring: p95 moved from 0.2 ms to 51.0 ms"),
        (STORE_DOWN, replace(KEPT, p95_ms=51.0), "store down: p95 moved from 0.2 ms to 51.0 ms"),
        (EXPIRING, replace(KEPT, loads=57), "expiring: 57 loads, for 14 copies with at most 4 lives each"),
        (EXPIRING, replace(KEPT, loads=5), "expiring: 5 loads, for 14 copies with at most 4 lives each"),
    ],
)
def test_each_bound_that_is_missed_is_told(moment: str, figures: Figures, told: str) -> None:
    kept = dict.fromkeys(MOMENTS, KEPT)
    assert misses(kept, SMALL) == []
    assert misses({**kept, moment: figures}, SMALL) == [told]


def test_loads_of_a_key_that_overlap_are_one_fill() -> None:
    fills = Fills()
    with fills.load("a"), fills.load("a"), fills.load("b"):
        pass
    with fills.load("a"):
        pass
    assert (fills.loads, fills.fills, fills.most) == (4, 3, 2)


def test_the_table_has_a_column_for_each_cache_and_says_how_long_each_moment_was() -> None:
    table = side_by_side({rival: dict.fromkeys(MOMENTS, KEPT) for rival in RIVALS}, SMALL)
    assert [column.header for column in table.columns] == ["moment", "", *RIVALS]
    assert "store down, 2.5 s" in list(table.columns[0].cells)
