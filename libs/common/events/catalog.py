"""What the catalog tells: that a schedule is on sale."""

from dataclasses import dataclass

from libs.common.events.catalogue import event
from libs.common.events.topics import CATALOG_SCHEDULES


@event(CATALOG_SCHEDULES, key_field="schedule")
@dataclass(frozen=True, slots=True)
class SchedulePublished:
    """A schedule's seats and prices are fixed from now on; the catalog's internal route gives them in full."""

    schedule: int
    concert: int
    room: int
    seat_count: int
    at_ms: int
