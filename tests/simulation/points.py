"""Named places where an instance may die: what a commit was for, told from the documents before and after it.

Each is a gap between two steps that no transaction covers. `reached` names the point of a commit; the others belong to
the broker: before and after a publish, after the effect of an event and before its progress is committed, before an
event is marked as published.
"""

from collections.abc import Callable, Sequence
from typing import Any

Body = dict[str, Any]

BEFORE_PUBLISH = "before publish"
AFTER_PUBLISH = "after publish"
BEFORE_PROGRESS = "before progress"
BEFORE_MARK = "before mark"

POINTS = (
    "after join issued",
    "after join key claimed",
    "after join key kept",
    "after offer before announce",
    "after lead taken",
    "after return registered",
    "after claim",
    "after lapse",
    "after visit ended",
    "between block and reservation",
    "after pin",
    "after sell before duty noted",
    "after seats freed",
    "after place taken",
    "after ticket bound",
    "after reservation filed",
    "after undone hold filed",
    "after PAYING",
    "between CONFIRMED and sell",
    "after HELD again",
    "after CANCELLING",
    "after CANCELLED",
    "after EXPIRED",
    "after REFUNDING",
    "after REFUNDED",
    "after duty noted",
    "after wallet pay before its event",
    "after wallet decline before its event",
    "after wallet void before its event",
    "after wallet refund before its event",
    "after wallet charge",
    "after answer again",
    BEFORE_PUBLISH,
    AFTER_PUBLISH,
    BEFORE_PROGRESS,
    BEFORE_MARK,
)


def reached(collection: str, before: Body | None, after: Body, event_types: Sequence[str]) -> str | None:
    """The point that a commit leads to, if it is one."""
    tell = _TELL.get(collection)
    return None if tell is None else tell(before, after, event_types)


def _of_room(before: Body | None, after: Body, _: Sequence[str]) -> str | None:
    if before is None:
        return None
    if after["issued"] != before["issued"]:
        return "after join issued"
    if after["leader"] != before["leader"]:
        return "after lead taken"
    if after["watermark"] != before["watermark"] or _offered(after) - _offered(before):
        return "after offer before announce"
    return "after return registered" if len(after["returning"]) > len(before["returning"]) else None


def _offered(room: Body) -> set[tuple[int, int]]:
    return {(entry[0], entry[1]) for entry in room["returning"] if entry[2] is not None}


def _of_session(_: Body | None, after: Body, __: Sequence[str]) -> str | None:
    return {"open": "after claim", "lapsed": "after lapse", "ended": "after visit ended"}[after["state"]]


def _of_join(_: Body | None, after: Body, __: Sequence[str]) -> str | None:
    return "after join key claimed" if after["sequence"] is None else "after join key kept"


def _of_block(_: Body | None, __: Body, event_types: Sequence[str]) -> str | None:
    if "SeatsHeld" in event_types:
        return "between block and reservation"
    if "SeatsSold" in event_types:
        return "after sell before duty noted"
    return "after seats freed" if "SeatsReleased" in event_types else "after pin"


def _of_reservation(before: Body | None, after: Body, _: Sequence[str]) -> str | None:
    if before is None:
        return "after reservation filed" if after["status"] == "HELD" else "after undone hold filed"
    if before["status"] == after["status"]:
        return "after duty noted" if before["owes"] and not after["owes"] else None
    return {"CONFIRMED": "between CONFIRMED and sell", "HELD": "after HELD again"}.get(
        after["status"], f"after {after['status']}"
    )


def _of_entry(before: Body | None, after: Body, _: Sequence[str]) -> str | None:
    if before is not None:
        return "after answer again"
    if after["kind"] in ("charge", "open"):
        return "after wallet charge"
    return f"after wallet {after['kind']} before its event"


_TELL: dict[str, Callable[[Body | None, Body, Sequence[str]], str | None]] = {
    "rooms": _of_room,
    "sessions": _of_session,
    "joins": _of_join,
    "blocks": _of_block,
    "reservations": _of_reservation,
    "places": lambda *_: "after place taken",
    "tickets": lambda *_: "after ticket bound",
    "entries": _of_entry,
}
