"""What the wallet needs from the outside."""

from collections.abc import Sequence
from typing import Protocol

from services.wallet.domain import Entry


class PlaceTaken(Exception):
    """An append lost: the user has an entry with this sequence number."""


class OpTaken(Exception):
    """An append lost: its cause has an entry."""


class Ledger(Protocol):
    """The entries of all users. Reads go to the store; nothing here remembers a balance."""

    async def head(self, user: int) -> Entry | None:
        """The newest entry of a user."""
        ...

    async def by_op(self, op: str) -> Entry | None: ...

    async def page(self, user: int, before_seq: int, limit: int) -> list[Entry]:
        """Entries with a smaller seq, newest first."""
        ...

    async def append(self, entry: Entry, events: Sequence[object]) -> None:
        """Store an entry and its events in one step. Raises PlaceTaken or OpTaken."""
        ...

    async def tell_again(self, entry: Entry, event: object) -> None:
        """Store the answer of an entry for publishing once more; returns when that is durable."""
        ...
