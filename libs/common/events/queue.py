"""What the queue tells: where each line stands, and who came in and went out."""

from dataclasses import dataclass
from typing import Literal

from libs.common.events.catalogue import event
from libs.common.events.topics import QUEUE_LINE, QUEUE_SESSION


@event(QUEUE_LINE, key_field="room")
@dataclass(frozen=True, slots=True)
class LineMoved:
    """Said every second by the room's leader, changed or not. `rate` is people let in per second, lately."""

    room: int
    fence: int
    tick: int
    watermark: int
    issued: int
    rate: float
    state: Literal["open", "paused", "closed"]
    at_ms: int


@event(QUEUE_SESSION, key_field="ticket")
@dataclass(frozen=True, slots=True)
class SessionOpened:
    """A ticket came in and may stay until `until_ms`."""

    ticket: str
    room: int
    sequence: int
    until_ms: int
    at_ms: int


@event(QUEUE_SESSION, key_field="ticket")
@dataclass(frozen=True, slots=True)
class SessionClosed:
    """A ticket's visit is over (`paid`, `left`, `expired`). `until_ms` is when it would have ended by itself."""

    ticket: str
    room: int
    sequence: int
    reason: Literal["paid", "left", "expired"]
    until_ms: int
    at_ms: int
