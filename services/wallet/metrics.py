"""What the wallet counts: entries by kind. A rise of `decline` is buyers without points; of `refund`, sagas undone.

Ledger breaks must stay 0: an entry that does not follow from the one before it, found by looking again at ledgers that
were written lately."""

from prometheus_client import Counter

from libs.common.metrics import CommonMetrics

KINDS = ("charge", "pay", "decline", "void", "refund", "open")


class WalletMetrics(CommonMetrics):
    """The common series and the ledger's own."""

    def __init__(self) -> None:
        super().__init__("wallet")
        entries = Counter(
            "stagedoor_wallet_entries_total", "Ledger entries written, by kind", ["kind"], registry=self.registry
        )
        self.entries = {kind: entries.labels(kind) for kind in KINDS}
        self.ledger_breaks = Counter(
            "stagedoor_wallet_ledger_breaks_total",
            "Entries found that do not follow from the one before; must stay 0",
            registry=self.registry,
        )
