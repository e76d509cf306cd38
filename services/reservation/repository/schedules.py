"""The layouts of schedules, asked of the catalog once and then remembered: a published schedule never changes."""

import asyncio
from collections import OrderedDict

from pydantic import ValidationError

from libs.common.contract.catalog import READ_SCHEDULE, ScheduleLayout
from libs.common.errors import DependencyDown
from libs.common.web.upstream import Upstream
from services.reservation.domain.layout import Layout, laid_out
from services.reservation.domain.problems import ScheduleNotFound

SEATS_REMEMBERED_MAX = 2_000_000
"""Seats of all remembered layouts together (about 200 bytes each); beyond it the one used longest ago goes."""

CALL_TIMEOUT_S = 1.0


class CatalogSchedules:
    """`services.reservation.ports.Schedules` over the catalog's internal route, one call in flight per schedule."""

    def __init__(self, catalog: Upstream, seats_max: int = SEATS_REMEMBERED_MAX) -> None:
        self._catalog = catalog
        self._seats_max = seats_max
        self._layouts: OrderedDict[int, Layout] = OrderedDict()
        self._seat_count = 0
        self._loading: dict[int, asyncio.Task[Layout]] = {}

    async def layout(self, schedule: int) -> Layout:
        known = self._layouts.get(schedule)
        if known is not None:
            self._layouts.move_to_end(schedule)
            return known
        loading = self._loading.get(schedule)
        if loading is None:
            loading = self._loading[schedule] = asyncio.create_task(self._load(schedule))
            loading.add_done_callback(lambda done: self._loaded(schedule, done))
        # Shielded: a caller that gives up must not take the answer from the others who wait for it.
        return await asyncio.shield(loading)

    def _loaded(self, schedule: int, done: asyncio.Task[Layout]) -> None:
        del self._loading[schedule]
        if not done.cancelled():
            # Looked at here, because everyone who waited for it may have gone.
            done.exception()

    async def _load(self, schedule: int) -> Layout:
        path = READ_SCHEDULE.path.format(id=schedule)
        reply = await self._catalog.call(READ_SCHEDULE.method, path, timeout_s=CALL_TIMEOUT_S)
        if reply.status == 404:
            raise ScheduleNotFound(f"Schedule {schedule} is not on sale.")
        if reply.status != 200:
            raise DependencyDown(f"The catalog answered {reply.status} for a schedule.", retry_after_s=1)
        try:
            layout = laid_out(ScheduleLayout.model_validate_json(reply.body))
        except ValidationError:
            raise DependencyDown("The catalog's answer for a schedule cannot be read.", retry_after_s=1) from None
        self._layouts[schedule] = layout
        self._seat_count += len(layout.block)
        while self._seat_count > self._seats_max and len(self._layouts) > 1:
            _, gone = self._layouts.popitem(last=False)
            self._seat_count -= len(gone.block)
        return layout
