"""The line, checked at every commit of the queue's own documents.

| | |
|---|---|
| I11 | visits that are open and offers nobody has answered are together at most the capacity; nobody comes in before the watermark has passed, and nobody holds who has not come in; who is returning comes before who is new, and by sequence |
| order | watermark, floor, fence and tick never move back; every sequence that is settled has its session; a visit that ended stays ended |
"""  # noqa: E501  a table

from typing import Any

from tests.simulation.invariants.findings import Findings

Body = dict[str, Any]

FORWARD = ("issued", "watermark", "settled", "floor", "fence", "tick")


class LineWatch:
    """Knows the rooms and the sessions as last committed."""

    def __init__(self, findings: Findings, *, clocks_are_bounded: bool = True) -> None:
        self._findings = findings
        self._clocks_are_bounded = clocks_are_bounded
        self.rooms: dict[int, Body] = {}
        self.sessions: dict[tuple[int, int], Body] = {}
        self.admitted_count = 0

    def room(self, before: Body | None, after: Body, now_ms: int) -> None:
        """A room was written."""
        id_ = after["id"]
        known = self.rooms.get(id_, before) or after
        for name in FORWARD:
            fits = after[name] >= known[name]
            self._findings.check(
                fits, "order", f"{name} of room {id_} fell from {known[name]} to {after[name]}", (f"room {id_}",)
            )
        self._findings.check(
            after["watermark"] <= after["issued"], "order", f"room {id_} let in more than it issued", (f"room {id_}",)
        )
        self._returning(known, after)
        self.rooms[id_] = after
        missing = [n for n in range(after["floor"] + 1, after["settled"] + 1) if (id_, n) not in self.sessions]
        self._findings.check(not missing, "order", f"room {id_} settled {missing} without a session", (f"room {id_}",))
        self._capacity(id_, now_ms)

    def _returning(self, before: Body, after: Body) -> None:
        offered = {(entry[0], entry[1]) for entry in before["returning"] if entry[2] is not None}
        new = [entry[0] for entry in after["returning"] if entry[2] is not None and (entry[0], entry[1]) not in offered]
        # Updates fold: one write may hold a tick and then the registration of one whom that tick could not know.
        # Whoever waited when the write began was known to its tick.
        known = {(entry[0], entry[1]) for entry in before["returning"] if entry[2] is None}
        waiting = [entry[0] for entry in after["returning"] if entry[2] is None and (entry[0], entry[1]) in known]
        about = (f"room {after['id']}",)
        if new and waiting:
            self._findings.check(max(new) < min(waiting), "I11", f"{new} return before {waiting}", about)
        if after["watermark"] > before["watermark"]:
            self._findings.check(not waiting, "I11", f"new people come in before {waiting}, who return", about)

    def session(self, before: Body | None, after: Body, now_ms: int) -> None:
        """A session was written."""
        key = (after["room"], after["sequence"])
        about = (f"{key[0]}:{key[1]}",)
        room = self.rooms.get(key[0])
        if after["state"] == "open":
            self.admitted_count += 1
            watermark = room["watermark"] if room else 0
            self._findings.check(key[1] <= watermark, "I11", f"{key} came in, the watermark was {watermark}", about)
        if before is not None:
            fits = before["state"] != "ended"
            self._findings.check(fits, "order", f"the visit of {key} ended and then was {after['state']}", about)
        self.sessions[key] = after
        self._capacity(key[0], now_ms)

    def hold(self, reservation: Body) -> None:
        """A reservation was filed by a ticket, which must have come in."""
        if reservation["room"] is None:
            return
        session = self.sessions.get((reservation["room"], reservation["sequence"]))
        came_in = session is not None and session["state"] != "lapsed" and session["round"] > 0
        self._findings.check(
            came_in, "I11", f"{reservation['id']} was held from outside: {session}", (reservation["id"],)
        )

    def inside(self, room: int, now_ms: int) -> tuple[int, int]:
        """How many visits are open, and how many offers are not answered."""
        body = self.rooms[room]
        here = {key[1]: each for key, each in self.sessions.items() if key[0] == room}
        open_count = sum(each["state"] == "open" and each["until_ms"] > now_ms for each in here.values())
        offered = sum(n not in here for n in range(body["settled"] + 1, body["watermark"] + 1))
        awaited = sum(
            entry[2] is not None and here[entry[0]]["state"] == "lapsed" and here[entry[0]]["round"] < entry[1]
            for entry in body["returning"]
            if entry[0] in here
        )
        return open_count, offered + awaited

    def _capacity(self, room: int, now_ms: int) -> None:
        if room not in self.rooms or not self._clocks_are_bounded:
            return
        inside, unclaimed = self.inside(room, now_ms)
        capacity = self.rooms[room]["capacity"]
        self._findings.check(
            inside + unclaimed <= capacity,
            "I11",
            f"room {room} for {capacity} has {inside} inside and {unclaimed} called",
            (f"room {room}",),
        )
