"""The room's documents on any store.

blocks         <schedule>:<index>      the touched seats of a block
reservations   <reservation id>
places         <schedule>:<user>       only for schedules of several blocks
tickets        <ticket>                the user it holds for
payment_keys   derived from user, key  the reservation and the body it is for; only keys that clients gave
"""

from dataclasses import asdict
from typing import Any, TypeVar

from libs.common.ids import derived_id
from libs.common.metrics import CommonMetrics
from libs.common.storage.folding import Documents, OnStored
from libs.common.storage.ports import AlreadyExists, Body, Collection, Decide, Store, Where
from services.reservation.domain.block import Block
from services.reservation.domain.cap import Place, Places
from services.reservation.domain.layout import BLOCKS_MAX
from services.reservation.domain.reservation import Attempt, PlacedSeat, Refusal, Reservation
from services.reservation.ports import ReservationTaken

R = TypeVar("R")


def _encode_block(block: Block) -> Body:
    return {
        "schedule": block.schedule,
        "index": block.index,
        "due_ms": block.due_ms,
        "seats": list(block.rows.values()),
    }


def _decode_block(body: Body) -> Block:
    return Block(body["schedule"], body["index"], {row[0]: row for row in body["seats"]})


def _encode_reservation(reservation: Reservation) -> Body:
    refusal = reservation.refusal
    return {
        **_fields(reservation),
        "seats": [(seat.seat, seat.block, seat.n) for seat in reservation.seats],
        "attempts": [_fields(attempt) for attempt in reservation.attempts],
        "refusal": None if refusal is None else [refusal.code, *refusal.seats],
        "due_ms": reservation.due_ms,
    }


def _decode_reservation(body: Body) -> Reservation:
    refusal = body["refusal"]
    fields = {
        **body,
        "seats": tuple(PlacedSeat(*seat) for seat in body["seats"]),
        "attempts": tuple(Attempt(**attempt) for attempt in body["attempts"]),
        "refusal": None if refusal is None else Refusal(refusal[0], tuple(refusal[1:])),
    }
    del fields["due_ms"]
    return Reservation(**fields)


def _fields(record: Reservation | Attempt) -> dict[str, Any]:
    """The record's own fields, as they are: `asdict` copies everything below them, for ten times the price."""
    return {name: getattr(record, name) for name in record.__slots__}


BLOCKS: Collection[Block] = Collection(
    "blocks",
    encode=_encode_block,
    decode=_decode_block,
    indexes=(("schedule",), ("due_ms",)),
    kept_count_max=512,  # at 500 touched seats each 90 MB, and far more blocks than are in demand at one time
)
RESERVATIONS: Collection[Reservation] = Collection(
    "reservations",
    encode=_encode_reservation,
    decode=_decode_reservation,
    indexes=(("due_ms",), ("ticket", "status")),
    kept_count_max=4_096,
)
PLACES: Collection[Places] = Collection(
    "places",
    encode=asdict,
    decode=lambda body: Places(tuple(Place(**place) for place in body["places"])),
)
PAYMENT_KEYS: Collection[Body] = Collection(
    "payment_keys", encode=lambda body: body, decode=lambda body: body, indexes=(("made_ms",),)
)


class BlockDocuments:
    """`services.reservation.ports.Blocks`."""

    def __init__(self, store: Store, metrics: CommonMetrics, on_stored: OnStored) -> None:
        self._blocks = Documents(store, BLOCKS, "reservation", metrics, on_stored)

    async def update(self, id_: str, decide: Decide[Block, R]) -> R:
        return await self._blocks.update(id_, decide)

    async def of_schedule(self, schedule: int) -> list[Block]:
        return await self._blocks.find(Where("schedule", "=", schedule), limit=BLOCKS_MAX)

    async def due(self, until_ms: int, limit: int) -> list[Block]:
        return await self._blocks.find(Where("due_ms", "<=", until_ms), order_by="due_ms", limit=limit)


class ReservationDocuments:
    """`services.reservation.ports.Reservations`."""

    def __init__(self, store: Store, metrics: CommonMetrics, on_stored: OnStored) -> None:
        self._reservations = Documents(store, RESERVATIONS, "reservation", metrics, on_stored)

    async def get(self, id_: str) -> Reservation | None:
        return await self._reservations.get(id_)

    async def insert(self, reservation: Reservation) -> None:
        try:
            await self._reservations.insert(reservation.id, reservation)
        except AlreadyExists as taken:
            raise ReservationTaken from taken

    async def update(self, id_: str, decide: Decide[Reservation, R]) -> R:
        return await self._reservations.update(id_, decide)

    async def due(self, until_ms: int, limit: int) -> list[Reservation]:
        return await self._reservations.find(Where("due_ms", "<=", until_ms), order_by="due_ms", limit=limit)

    async def has_confirmed(self, ticket: str) -> bool:
        """True when a purchase of the ticket is confirmed."""
        paid = await self._reservations.find(Where("ticket", "=", ticket), Where("status", "=", "CONFIRMED"), limit=1)
        return bool(paid)


class PlaceDocuments:
    """`services.reservation.ports.PlaceBooks`."""

    def __init__(self, store: Store, metrics: CommonMetrics, on_stored: OnStored) -> None:
        self._places = Documents(store, PLACES, "reservation", metrics, on_stored)

    async def update(self, id_: str, decide: Decide[Places, R]) -> R:
        return await self._places.update(id_, decide)


class PaymentKeyDocuments:
    """`services.reservation.ports.PaymentKeys`."""

    def __init__(self, store: Store, metrics: CommonMetrics, on_stored: OnStored) -> None:
        self._keys = Documents(store, PAYMENT_KEYS, "reservation", metrics, on_stored)

    async def claim(self, user: int, key: str, reservation: str, body_digest: str, now_ms: int) -> bool:
        id_ = derived_id("k", user, "pay", key)
        claimed: Body = {"reservation": reservation, "body_digest": body_digest, "made_ms": now_ms}
        try:
            await self._keys.insert(id_, claimed)
        except AlreadyExists:
            # None: it was purged between the two steps, so nobody else has it any more.
            claimed = await self._keys.get(id_) or claimed
        return _is_for(claimed, reservation, body_digest)

    async def was_claimed(self, user: int, key: str, reservation: str, body_digest: str) -> bool | None:
        claimed = await self._keys.get(derived_id("k", user, "pay", key))
        return None if claimed is None else _is_for(claimed, reservation, body_digest)

    async def purge(self, made_before_ms: int, limit: int) -> int:
        return await self._keys.purge(Where("made_ms", "<", made_before_ms), limit=limit)


def _is_for(claimed: Body, reservation: str, body_digest: str) -> bool:
    return bool(claimed["reservation"] == reservation and claimed["body_digest"] == body_digest)
