"""The sale as its owner sees it: from the end of the line to the seat that is paid for."""

from infra.grafana.boards.common import SETTLING
from infra.grafana.panels import Board, Row, graph, stat
from infra.grafana.queries import Query, grown, level, minus, quantile, rate, ratio, total

_Q, _R = "stagedoor_queue", "stagedoor_reservation"
_ENTRIES = "stagedoor_wallet_entries_total"


def _room(name: str) -> Query:
    return level(f"{_Q}_{name}", by="room")


def _waits(share: float) -> Query:
    """Over the last ten minutes: in a line without overtaking, how long the next one has waited is what each waits."""
    head = _room("head_wait_seconds")
    return Query(f"quantile_over_time({share}, ({head.expr})[10m:15s])", head.says)


_CONFIRMED = grown(f"{_R}_status_entered_total", "10m", status="CONFIRMED")
_HELD = grown(f"{_R}_holds_total", "10m", outcome="held")
_DECLINED = grown(_ENTRIES, "10m", kind="decline")
_ASKED = grown(_ENTRIES, "10m", kind="~pay|decline")

BOARD = Board(
    "sale",
    "Sale",
    "How is the sale going: how long do people wait and why, and do their holds become tickets?",
    (
        Row(
            "Now",
            (
                stat("In line", "short", level(f"{_Q}_waiting_people", "max", "room")),
                stat("Next one has waited", "s", _room("head_wait_seconds")),
                stat("Inside", "short", _room("open_sessions")),
                stat("Seats left", "short", level("stagedoor_catalog_available_seats")),
                stat("Sold in 10 minutes", "short", _CONFIRMED, says="Reservations confirmed in ten minutes."),
                stat(
                    "Unsold paid seats",
                    "short",
                    total(f"{_R}_unsold_seats_total"),
                    says="Paid seats that could not be sold: stays 0.",
                    red_from=1,
                ),
            ),
        ),
        Row(
            "The line",
            (
                graph("People in line", "short", ("room {{room}}", _room("waiting_people"))),
                graph(
                    "How long people wait",
                    "s",
                    ("room {{room}}, half", _waits(0.5)),
                    ("room {{room}}, 95 of 100", _waits(0.95)),
                    ("room {{room}}, one who joins now", _room("wait_estimate_seconds")),
                    says="What the one at the head had waited, over ten minutes, and the estimate people are told.",
                ),
                graph(
                    "From offer to visit",
                    "s",
                    ("half", quantile(0.5, f"{_Q}_claim_wait_seconds")),
                    ("95 of 100", quantile(0.95, f"{_Q}_claim_wait_seconds")),
                ),
            ),
        ),
        Row(
            "Who is let in, and why not more",
            (
                graph(
                    "Joined and let in",
                    "cps",
                    ("joined", rate(f"{_Q}_joins_total")),
                    ("let in", rate(f"{_Q}_admitted_total")),
                    ("did not come", rate(f"{_Q}_lapsed_total")),
                    says="People per second. What is let in follows what becomes free.",
                ),
                graph(
                    "Free places",
                    "short",
                    (
                        "room {{room}}",
                        minus(_room("capacity_sessions"), _room("open_sessions"), _room("unclaimed_offers")),
                    ),
                    says="Capacity less those inside and offered. Near 0 is a full room, the usual reason to wait; "
                    "below 0 an operator has lowered the capacity.",
                ),
                graph(
                    "Held back, or not led",
                    "short",
                    ("room {{room}} held back", _room("held_back")),
                    ("room {{room}} leaders", level(f"{_Q}_leader", "sum", "room")),
                    says="Nobody is let in while a room is held back (paused, or before opensAt) or has no leader.",
                ),
                graph(
                    "Inside",
                    "short",
                    ("room {{room}} inside", _room("open_sessions")),
                    ("room {{room}} offered", _room("unclaimed_offers")),
                    ("room {{room}} capacity", _room("capacity_sessions")),
                ),
                graph(
                    "How visits end",
                    "cps",
                    ("{{reason}}", rate(f"{_Q}_sessions_ended_total", "reason")),
                    says="`paid` is what a sale wants; `expired` keeps a place for as long as a visit may last.",
                ),
            ),
        ),
        Row(
            "Seats",
            (
                graph("Seats left", "short", ("seats", level("stagedoor_catalog_available_seats"))),
                graph("Holds", "cps", ("{{outcome}}", rate(f"{_R}_holds_total", "outcome"))),
                graph(
                    "Holds that become tickets",
                    "percentunit",
                    ("in ten minutes", ratio(_CONFIRMED, _HELD)),
                    says="Reservations confirmed for each hold, over ten minutes. The rest lapse, are cancelled, or "
                    "are still being paid.",
                ),
            ),
        ),
        Row(
            "Payments",
            (
                SETTLING,
                graph(
                    "Payments declined",
                    "percentunit",
                    ("in ten minutes", ratio(_DECLINED, _ASKED)),
                    says="Share of payments that failed for want of points.",
                ),
                graph("Where reservations go", "cps", ("{{status}}", rate(f"{_R}_status_entered_total", "status"))),
            ),
        ),
    ),
)
