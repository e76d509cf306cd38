"""The ledger as documents: one per entry, `_id` = `user:seq`, `op` unique."""

from collections.abc import Sequence
from dataclasses import asdict

from libs.common.metrics import CommonMetrics
from libs.common.storage.folding import Documents, OnStored
from libs.common.storage.ports import AlreadyExists, Collection, Decision, Store, Where
from services.wallet.domain import Entry
from services.wallet.ports import OpTaken, PlaceTaken

ENTRIES: Collection[Entry] = Collection(
    "entries",
    encode=asdict,
    decode=lambda body: Entry(**body),
    unique=("op",),
    indexes=(("user", "seq"),),
)


class LedgerRepository:
    """`services.wallet.ports.Ledger` on any store."""

    def __init__(self, store: Store, metrics: CommonMetrics, on_stored: OnStored) -> None:
        self._entries = Documents(store, ENTRIES, "wallet", metrics, on_stored)

    async def head(self, user: int) -> Entry | None:
        found = await self._entries.find(Where("user", "=", user), order_by="seq", descending=True, limit=1)
        return found[0] if found else None

    async def by_op(self, op: str) -> Entry | None:
        found = await self._entries.find(Where("op", "=", op), limit=1)
        return found[0] if found else None

    async def page(self, user: int, before_seq: int, limit: int) -> list[Entry]:
        older = Where("seq", "<", before_seq)
        return await self._entries.find(Where("user", "=", user), older, order_by="seq", descending=True, limit=limit)

    async def append(self, entry: Entry, events: Sequence[object]) -> None:
        try:
            await self._entries.insert(_id(entry), entry, events)
        except AlreadyExists as taken:
            raise (PlaceTaken if taken.field == "id" else OpTaken) from taken

    async def tell_again(self, entry: Entry, event: object) -> None:
        await self._entries.update(_id(entry), lambda _: Decision(None, events=[event]))


def _id(entry: Entry) -> str:
    return f"{entry.user}:{entry.seq}"
