"""The ledger, checked at every commit.

| | |
|---|---|
| I3 | no balance falls below 0 |
| I4 | every entry follows the one before: sequence, seal and balance; no cause (`op`) has two entries; an entry never changes |
| I5 | no reservation is ever charged more than its price |
"""  # noqa: E501  a table

from typing import Any

from services.wallet.domain import GENESIS, Entry
from tests.simulation.invariants.findings import Findings

Body = dict[str, Any]


class LedgerWatch:
    """Knows the newest entry of every user. `net_charged` is shared with the sale."""

    def __init__(self, findings: Findings, reservations: dict[str, Body], net_charged: dict[str, int]) -> None:
        self._findings = findings
        self._reservations = reservations
        self.net_charged = net_charged
        self.heads: dict[int, Entry] = {}
        self.charges: dict[int, list[Entry]] = {}
        self._balances: dict[int, list[tuple[int, int]]] = {}
        self._ops: dict[str, Entry] = {}

    def entry(self, before: Body | None, after: Body, now_ms: int) -> None:
        """An entry was written."""
        if before is not None:
            self._findings.check(before == after, "I4", f"entry {before} became {after}", (after["op"],))
            return
        entry = Entry(**after)
        head = self.heads.get(entry.user)
        expected = (head.seq + 1, head.seal, head.balance_after + entry.amount) if head else (1, GENESIS, entry.amount)
        follows = (entry.seq, entry.prev, entry.balance_after) == expected
        self._findings.check(follows, "I4", f"entry {after} does not follow {head}", (entry.op,))
        self._findings.check(
            entry.balance_after >= 0, "I3", f"user {entry.user} has {entry.balance_after}", (entry.op,)
        )
        twin = self._ops.get(entry.op)
        self._findings.check(twin is None, "I4", f"{entry.op} has two entries: {twin} and {entry}", (entry.op,))
        self._ops[entry.op] = self.heads[entry.user] = entry
        self._balances.setdefault(entry.user, [(0, 0)]).append((now_ms, entry.balance_after))
        if entry.kind == "charge":
            self.charges.setdefault(entry.user, []).append(entry)
        if entry.kind in ("pay", "refund"):
            self._payment(entry)

    def was_short(self, user: int, amount: int, since_ms: int) -> bool:
        """Whether the balance was smaller than `amount` at any time since."""
        known = self._balances.get(user, [(0, 0)])
        ends_ms = [at_ms for at_ms, _ in known[1:]]
        return any(
            balance < amount and (not ends_ms[number:] or ends_ms[number] >= since_ms)
            for number, (_, balance) in enumerate(known)
        )

    def _payment(self, entry: Entry) -> None:
        id_ = entry.op.split(":")[1]
        charged = self.net_charged[id_] = self.net_charged.get(id_, 0) - entry.amount
        reservation = self._reservations.get(id_)
        price = reservation["amount"] if reservation else 0
        self._findings.check(0 <= charged <= price, "I5", f"{id_} of {price} points is charged {charged}", (id_,))
