"""The line of each room and its leader."""

from infra.grafana.boards.common import parts, processes, requests, store
from infra.grafana.panels import Board, Row, graph
from infra.grafana.queries import Query, level, quantile, rate, ratio

_Q = "stagedoor_queue"


def _room(name: str, how: str = "max") -> Query:
    """A figure of the room document, which every copy shows alike."""
    return level(f"{_Q}_{name}", how, "room")


BOARD = Board(
    "queue",
    "Queue",
    "Does the line move, who leads it, and is the room as full as it may be?",
    (
        Row(
            "The line",
            (
                graph("People in line", "short", ("room {{room}}", _room("waiting_people"))),
                graph(
                    "Inside and offered",
                    "short",
                    ("room {{room}} inside", _room("open_sessions")),
                    ("room {{room}} offered", _room("unclaimed_offers")),
                    ("room {{room}} returning", _room("returning_people")),
                    ("room {{room}} capacity", _room("capacity_sessions")),
                    says="Inside and offered are together at most the capacity; returning people come first.",
                ),
                graph(
                    "In and out of the line",
                    "cps",
                    ("joined", rate(f"{_Q}_joins_total")),
                    ("let in", rate(f"{_Q}_admitted_total")),
                    ("came in", rate(f"{_Q}_sessions_opened_total")),
                    ("did not come", rate(f"{_Q}_lapsed_total")),
                    says="People per second: places given out, offers made, visits begun, offers nobody answered.",
                ),
                graph("Visits that ended", "cps", ("{{reason}}", rate(f"{_Q}_sessions_ended_total", "reason"))),
                graph(
                    "Offers that lapse",
                    "percentunit",
                    ("of those made", ratio(rate(f"{_Q}_lapsed_total"), rate(f"{_Q}_admitted_total"))),
                    says="Above half: people are let in and do not come.",
                    red_from=0.5,
                ),
                graph("Held back by order", "short", ("room {{room}}", _room("held_back"))),
            ),
        ),
        Row(
            "Waiting",
            (
                graph("The next one has waited", "s", ("room {{room}}", _room("head_wait_seconds"))),
                graph("Estimated wait of one who joins", "s", ("room {{room}}", _room("wait_estimate_seconds"))),
                graph(
                    "From offer to visit",
                    "s",
                    ("half", quantile(0.5, f"{_Q}_claim_wait_seconds")),
                    ("95 of 100", quantile(0.95, f"{_Q}_claim_wait_seconds")),
                    says="How long people take to come when it is their turn; pollAfterMs is a third of the window "
                    "at most.",
                ),
            ),
        ),
        Row(
            "The leader",
            (
                graph(
                    "Leaders",
                    "short",
                    ("room {{room}}", _room("leader", "sum")),
                    says="One for each room.",
                    red_until=1,
                ),
                graph("Age of the last tick", "s", ("room {{room}}", _room("tick_age_seconds", "min")), red_from=10),
                graph(
                    "Fence",
                    "short",
                    ("room {{room}}", _room("fence")),
                    says="Each step is a change of leader. Growing by the minute: leaders are too slow for their "
                    "lease.",
                ),
            ),
        ),
        requests("queue"),
        store("queue"),
        parts("queue", calls=False),
        processes("queue"),
    ),
)
