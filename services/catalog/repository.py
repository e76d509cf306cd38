"""Behind the catalog's ports: its documents, the cache in Redis, and the reservation service's account of seats."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from libs.common.contract.reservation import READ_SEATS, TouchedSeats
from libs.common.errors import DependencyDown
from libs.common.metrics import CommonMetrics
from libs.common.redis_client import RedisClient
from libs.common.storage.folding import Documents, OnStored
from libs.common.storage.ports import Collection, Store, Where
from libs.common.web.upstream import Upstream
from services.catalog.domain import (
    Concert,
    Layout,
    Proposals,
    SeatState,
    Venue,
    concert_body,
    concert_from,
    layout_body,
    layout_from,
    propose,
    publish,
    published_layout,
)

CONCERTS_LISTED_MAX = 10_000
"""Concerts in the list; those with higher ids are on sale but not listed."""

SNAPSHOT_TIMEOUT_S = 2.0
OK = 200


def _proposals_body(proposals: Proposals) -> dict[str, Any]:
    layouts = [layout_body(layout) for layout in proposals.layouts.values()]
    return {"schedule": proposals.schedule, "concert": proposals.concert, "layouts": layouts}


def _proposals_from(body: dict[str, Any]) -> Proposals:
    layouts = {layout.digest: layout for layout in map(layout_from, body["layouts"])}
    return Proposals(body["schedule"], body["concert"], layouts)


CONCERTS: Collection[Concert] = Collection("concerts", encode=concert_body, decode=concert_from, indexes=(("id",),))
SCHEDULES: Collection[Proposals] = Collection("schedules", encode=_proposals_body, decode=_proposals_from)


class CatalogRepository:
    """`services.catalog.ports.Shelf` on any store. Document ids are those of the concerts and schedules."""

    def __init__(self, store: Store, metrics: CommonMetrics, on_stored: OnStored) -> None:
        self._concerts = Documents(store, CONCERTS, "catalog", metrics, on_stored)
        self._schedules = Documents(store, SCHEDULES, "catalog", metrics, on_stored)

    async def concerts(self) -> list[Concert]:
        return await self._concerts.find(Where("id", ">=", 1), order_by="id", limit=CONCERTS_LISTED_MAX)

    async def concert(self, concert: int) -> Concert | None:
        return await self._concerts.get(str(concert))

    async def layout(self, schedule: int) -> Layout | None:
        proposals = await self._schedules.get(str(schedule))
        if proposals is None:
            return None
        return published_layout(proposals, await self.concert(proposals.concert))

    async def owner(self, schedule: int) -> int | None:
        proposals = await self._schedules.get(str(schedule))
        return None if proposals is None else proposals.concert

    async def propose(self, layout: Layout) -> None:
        await self._schedules.update(str(layout.schedule), lambda current: propose(current, layout))

    async def publish(self, venue: Venue, now_ms: int) -> Concert:
        return await self._concerts.update(str(venue.concert.id), lambda current: publish(current, venue, now_ms))


class RedisCache:
    """`services.catalog.ports.SharedCache` in Redis. Nothing in it is the truth."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    async def start(self) -> None:
        """Nothing to do: the first call connects."""

    async def stop(self) -> None:
        await self._redis.close()

    async def get(self, key: str) -> bytes | None:
        found: bytes | None = await self._redis.call("GET", key)
        return found

    async def put(self, key: str, value: bytes, ttl_s: float) -> None:
        await self._redis.call("SET", key, value, "PX", round(ttl_s * 1000))

    async def drop(self, key: str) -> None:
        await self._redis.call("DEL", key)


class ReservationSeats:
    """`services.catalog.ports.SeatNews`, asked of the reservation service."""

    def __init__(self, reservation: Upstream) -> None:
        self._reservation = reservation

    async def touched(self, schedule: int) -> Sequence[tuple[int, int, SeatState]]:
        path = f"{READ_SEATS.path}?schedule={schedule}"
        reply = await self._reservation.call(READ_SEATS.method, path, timeout_s=SNAPSHOT_TIMEOUT_S)
        if reply.status != OK:
            raise DependencyDown(f"The reservation service answered {reply.status} for the seats of {schedule}.")
        try:
            return TouchedSeats.model_validate_json(reply.body).seats
        except ValidationError as wrong:
            raise DependencyDown(f"The reservation service's seats of {schedule} cannot be read: {wrong}") from None
