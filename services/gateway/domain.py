"""What the gateway makes of the news it hears: where a line stands, who is inside, when to ask again.

News arrives late, twice and out of order, through whichever gateway. So each fact is merged by a rule that needs no
order: of a line the newest tick is kept and the highest watermark ever heard, of a ticket unknown < open < closed.
That is why a position never grows and why a visit that has ended stays ended.
"""

import math
from dataclasses import dataclass
from typing import Literal

from libs.common.errors import Problem

RoomState = Literal["open", "paused", "closed"]

ETA_SECONDS_MAX = 24 * 3600
"""Beyond a day an estimate is a guess: nobody is told one."""

JITTER = 0.25
"""How far pauses are spread, so that people who joined together do not go on asking together."""


class RoomNotFound(Problem):
    status, code, title = 404, "ROOM_NOT_FOUND", "There is no such waiting room"


class RoomClosed(Problem):
    status, code, title = 409, "ROOM_CLOSED", "This line takes no more people"


class StillWaiting(Problem):
    status, code, title = 403, "STILL_WAITING", "It is not your turn yet"

    def __init__(self, position: int) -> None:
        super().__init__(f"Your position is {position}; ask for it again.", extra={"position": position})


@dataclass(frozen=True, slots=True)
class Line:
    """Where a room's line stands. `rate` is people let in per second; `(fence, tick)` grows with every tick."""

    room: int
    fence: int
    tick: int
    watermark: int
    rate: float
    state: RoomState

    def ahead_of(self, sequence: int) -> int:
        """The position of a place: people ahead, and oneself; 0 when it is its turn."""
        return max(0, sequence - self.watermark)


def merged_line(one: Line, other: Line) -> Line:
    """What both say together, whichever came first: the newest tick, and a watermark that never moves back."""
    newest = max(one, other, key=lambda line: (line.fence, line.tick, line.state, line.rate))
    watermark = max(one.watermark, other.watermark)
    return Line(newest.room, newest.fence, newest.tick, watermark, newest.rate, newest.state)


@dataclass(frozen=True, slots=True)
class Standing:
    """A ticket that came in at some time. `closed`: the queue has ended the visit; `until_ms` is when it ends, or would
    have ended, by itself. `believed_s`: so long (monotonic) the queue's word that it goes on counts for more than our
    clock, by which it is over."""

    closed: bool
    until_ms: int
    believed_s: float = -math.inf


def merged_standing(one: Standing, other: Standing) -> Standing:
    """What both say together, whichever came first."""
    return Standing(
        one.closed or other.closed, max(one.until_ms, other.until_ms), max(one.believed_s, other.believed_s)
    )


@dataclass(frozen=True, slots=True)
class Pace:
    """How long people may be asked to wait before they ask again. The longest pause wins where the two collide:
    somebody whose turn has come must ask well before the offer lapses."""

    shortest_ms: int
    longest_ms: int

    def pause_ms(self, wait_ms: float, chance: float) -> int:
        """The pause before asking again when the wait is `wait_ms`: half of it, within bounds, spread by `chance`
        (0 to 1)."""
        longest = self.longest_ms / (1 + JITTER)
        return round(min(max(wait_ms / 2, self.shortest_ms), longest) * (1 + JITTER * chance))


SUPPOSED_RATE = 100.0
"""People let in per second, supposed for the pause (never told as an estimate) where nobody was let in lately: who
stands at the front of an empty hall asks again at once, and who is far back does not."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a ticket is told. Position 0 is told to those only who are inside or have been."""

    state: Literal["WAITING", "INSIDE", "ENDED"]
    position: int
    poll_after_ms: int
    eta_seconds: int | None = None
    expires_ms: int | None = None


def waiting_place(line: Line, sequence: int, pace: Pace, chance: float) -> Place:
    """The place of somebody in line. At the front it is 1, until coming in has succeeded."""
    position = line.ahead_of(sequence) or 1
    if line.state != "open":
        return Place("WAITING", position, pace.pause_ms(math.inf, chance))
    wait_s = position / (line.rate or SUPPOSED_RATE)
    eta_seconds = math.ceil(wait_s) if line.rate > 0 and wait_s <= ETA_SECONDS_MAX else None
    return Place("WAITING", position, pace.pause_ms(wait_s * 1000, chance), eta_seconds)


def front_place(pace: Pace, chance: float) -> Place:
    """The place of somebody at the very front: the next free place is theirs, so they should ask again soon."""
    return Place("WAITING", 1, pace.pause_ms(0, chance))


def inside_place(pace: Pace, expires_ms: int | None = None) -> Place:
    """The place of somebody inside."""
    return Place("INSIDE", 0, pace.longest_ms, 0, expires_ms)


def ended_place(pace: Pace) -> Place:
    """The place of somebody whose visit is over."""
    return Place("ENDED", 0, pace.longest_ms)
