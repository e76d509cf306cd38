"""What the wallet counts: entries by kind. A rise of `decline` is buyers without points; of `refund`, sagas undone."""

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
