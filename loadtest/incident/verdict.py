"""The figures side by side, and what ours has promised, held against them."""

import math
from collections.abc import Iterator, Mapping

from rich.box import MARKDOWN
from rich.table import Table

from loadtest.incident.sale import EXPIRING, GONE, MOMENTS, PROCESS_COUNT, STORE_DOWN, WARM, Figures, Plan

P95_MOVES_MAX = 0.5
"""How far p95 may move, in reads of the store: far more than a busy machine adds to a read of memory, and less than any
reader sees who waits for the store."""

LIFE_MIN = 0.8
"""The shortest life of a copy, in times to live: jitter takes a tenth, refreshing before the end another."""

Moments = Mapping[str, Figures]


def misses(ours: Moments, plan: Plan) -> list[str]:
    """Each bound that ours misses, as a sentence."""
    return [*_broken_anywhere(ours), *_broken_in_memory(ours, plan), *_broken_loads(ours, plan)]


def _broken_anywhere(ours: Moments) -> Iterator[str]:
    for moment, seen in ours.items():
        if seen.failed or seen.unanswered:
            yield f"{moment}: {seen.failed} reads failed and {seen.unanswered} were not answered"
        if seen.fill_most > 1:
            yield f"{moment}: one fill of a key took {seen.fill_most} loads in one process"


def _broken_in_memory(ours: Moments, plan: Plan) -> Iterator[str]:
    warm_ms, moves_ms = ours[WARM].p95_ms, P95_MOVES_MAX * plan.read_s * 1000
    for moment in (EXPIRING, STORE_DOWN):
        if ours[moment].p95_ms > warm_ms + moves_ms:
            yield f"{moment}: p95 moved from {warm_ms:.1f} ms to {ours[moment].p95_ms:.1f} ms"


def _broken_loads(ours: Moments, plan: Plan) -> Iterator[str]:
    # The list of all concerts is kept warm too.
    copies = (plan.keys + 1) * PROCESS_COUNT
    for moment in (EXPIRING, GONE):
        lives = math.ceil(plan.moments_s[moment] / (LIFE_MIN * plan.life.ttl_s)) + 1
        loads = ours[moment].loads
        if not plan.keys <= loads <= copies * lives:
            yield f"{moment}: {loads} loads, for {copies} copies with at most {lives} lives each"


def side_by_side(figures: Mapping[str, Moments], plan: Plan) -> Table:
    """A table of what each cache did in each moment, that is Markdown when it is printed."""
    table = Table("moment", "", *figures, box=MARKDOWN)
    for moment in MOMENTS:
        columns = [_told(moments[moment]) for moments in figures.values()]
        for number, name in enumerate(columns[0]):
            title = "" if number else f"{moment}, {plan.moments_s[moment]:g} s"
            table.add_row(title, name, *(column[name] for column in columns))
    return table


def _told(seen: Figures) -> dict[str, str]:
    times_ms = (seen.p50_ms, seen.p95_ms, seen.p99_ms, seen.max_ms)
    return {
        "reads": f"{seen.reads:,}",
        "p50 / p95 / p99 / max ms": " / ".join(f"{ms:,.2f}" if ms < 10 else f"{ms:,.0f}" for ms in times_ms),
        "failed / unanswered": f"{seen.failed:,} / {seen.unanswered:,}",
        "loads": f"{seen.loads:,}",
        "loads for a fill, mean / most": f"{seen.fill_mean:,.1f} / {seen.fill_most:,}",
    }
