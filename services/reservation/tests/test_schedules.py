"""The memory of schedules: what it owes to callers that have gone."""

import asyncio
import gc

import pytest

from libs.common.errors import DependencyDown
from libs.common.testing.eventually import eventually
from libs.common.web.upstream import Reply
from services.reservation.repository.schedules import CatalogSchedules


class FailingCatalog:
    """Fails once it is let to."""

    name = "catalog"

    def __init__(self) -> None:
        self.may_fail = asyncio.Event()
        self.calls = 0

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def call(self, *_: object, **__: object) -> Reply:
        self.calls += 1
        await self.may_fail.wait()
        raise DependencyDown("The catalog cannot be reached.")


async def test_a_load_that_fails_after_its_callers_have_gone_is_no_error_of_the_loop() -> None:
    unheard: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context["message"]))
    catalog = FailingCatalog()
    schedules = CatalogSchedules(catalog)
    asking = asyncio.create_task(schedules.layout(1))
    await eventually(lambda: catalog.calls == 1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    catalog.may_fail.set()
    await eventually(lambda: not schedules._loading)
    gc.collect()
    assert unheard == []
    with pytest.raises(DependencyDown):
        await schedules.layout(1)
    assert catalog.calls == 2
