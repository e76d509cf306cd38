"""The ledger of points."""

from infra.grafana.boards.common import parts, processes, requests, store
from infra.grafana.panels import Board, Row, graph
from infra.grafana.queries import level, quantile, rate, ratio

_ENTRIES = "stagedoor_wallet_entries_total"

BOARD = Board(
    "wallet",
    "Wallet",
    "Are payments answered, and how many are declined or undone?",
    (
        Row(
            "The ledger",
            (
                graph("Entries", "wps", ("{{kind}}", rate(_ENTRIES, "kind"))),
                graph(
                    "Payments declined",
                    "percentunit",
                    ("of those asked for", ratio(rate(_ENTRIES, kind="decline"), rate(_ENTRIES, kind="~pay|decline"))),
                    says="Buyers without points.",
                ),
                graph(
                    "Payments undone",
                    "wps",
                    ("refunded", rate(_ENTRIES, kind="refund")),
                    ("voided", rate(_ENTRIES, kind="void")),
                    says="Refunds give points back; a void answers for a payment that never came.",
                ),
                graph(
                    "Ledgers that do not add up",
                    "short",
                    ("entries", rate("stagedoor_wallet_ledger_breaks_total")),
                    says="A broken invariant: it stays 0. Ledgers written lately are looked at again, a few at a time.",
                    red_from=1e-9,
                ),
                graph(
                    "Payments waiting",
                    "short",
                    ("events", level("stagedoor_consumer_lag_events", job="wallet", group="wallet")),
                    says="Requests the wallet has not finished.",
                    red_from=500,
                ),
                graph(
                    "Time to decide on a payment",
                    "s",
                    ("95 of 100", quantile(0.95, "stagedoor_event_handling_seconds", job="wallet", group="wallet")),
                ),
            ),
        ),
        requests("wallet"),
        store("wallet"),
        parts("wallet", calls=False),
        processes("wallet"),
    ),
)
