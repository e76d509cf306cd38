"""Holds, and where reservations end."""

from infra.grafana.boards.common import SETTLING, parts, processes, requests, store
from infra.grafana.panels import Board, Row, graph
from infra.grafana.queries import level, rate

_R = "stagedoor_reservation"

BOARD = Board(
    "reservation",
    "Reservation",
    "Do holds become tickets, and does every payment come to its end?",
    (
        Row(
            "Holds",
            (
                graph(
                    "Holds",
                    "reqps",
                    ("{{outcome}}", rate(f"{_R}_holds_total", "outcome")),
                    says="By outcome. `SEAT_TAKEN` is the crowd, not a fault.",
                ),
                graph("Seats asked for and taken", "cps", ("seats", rate(f"{_R}_conflicting_seats_total"))),
                graph("Seats that lapsed", "cps", ("seats", rate(f"{_R}_lapsed_seats_total"))),
            ),
        ),
        Row(
            "Payments",
            (
                graph(
                    "Status entered",
                    "cps",
                    ("{{status}}", rate(f"{_R}_status_entered_total", "status")),
                    says="Reservations that entered a status. `CANCELLING` rising: the wallet does not answer.",
                ),
                SETTLING,
                graph("Callers that wait for an outcome", "short", ("callers", level(f"{_R}_waiting_callers", "sum"))),
                graph(
                    "Reservations found due",
                    "short",
                    ("{{instance}}", level(f"{_R}_due_reservations", by="instance")),
                    red_from=100,
                ),
                graph("Wallet asked again", "ops", ("resends", rate(f"{_R}_resends_total"))),
                graph(
                    "Wallet silent, payments refused",
                    "short",
                    ("{{instance}}", level(f"{_R}_wallet_silent", by="instance")),
                    red_from=1,
                ),
                graph(
                    "Paid seats that could not be sold",
                    "short",
                    ("seats", rate(f"{_R}_unsold_seats_total")),
                    says="A broken invariant: it stays 0.",
                    red_from=1e-9,
                ),
            ),
        ),
        requests("reservation"),
        store("reservation"),
        parts("reservation"),
        processes("reservation"),
    ),
)
