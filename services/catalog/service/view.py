"""Which seats are taken, as far as this process has heard. Knows no seat that nobody ever held.

News is merged by maximum (`services.catalog.domain`), so events and snapshots may come in any order and any number of
times, before or after this catalog knows the schedule. Its size is bounded by the seats that were ever held.
"""

from collections.abc import Iterable
from typing import Literal

from services.catalog.domain import UNTOUCHED, Mark, is_taken
from services.catalog.metrics import CatalogMetrics


class ScheduleView:
    """The touched seats of one schedule. `moves` counts how often a seat was taken or given back."""

    __slots__ = ("marks", "moves", "taken")

    def __init__(self) -> None:
        self.marks: dict[int, Mark] = {}
        self.taken: set[int] = set()
        self.moves = 0


NOTHING_TAKEN = ScheduleView()
"""The view of a schedule of which nothing was heard; never changed."""


class View:
    """All schedules. `moves` counts the moves of any of them."""

    def __init__(self, metrics: CatalogMetrics) -> None:
        self._metrics = metrics
        self._schedules: dict[int, ScheduleView] = {}
        self.moves = 0

    def of(self, schedule: int) -> ScheduleView:
        """The view of one schedule, to be read only."""
        return self._schedules.get(schedule, NOTHING_TAKEN)

    def merge(self, schedule: int, news: Iterable[tuple[int, Mark]], source: Literal["event", "snapshot"]) -> None:
        """Take in (seat, mark) pairs, new or old."""
        seen = self._schedules.setdefault(schedule, ScheduleView())
        newer = moved = 0
        for seat, mark in news:
            known = seen.marks.get(seat, UNTOUCHED)
            if mark <= known:
                continue
            seen.marks[seat] = mark
            newer += 1
            taken = is_taken(mark)
            if taken != is_taken(known):
                moved += 1
                (seen.taken.add if taken else seen.taken.discard)(seat)
        if moved:
            seen.moves += 1
            self.moves += 1
        if newer:
            self._metrics.merged[source].inc(newer)
