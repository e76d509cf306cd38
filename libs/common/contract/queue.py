"""The line's HTTP interface.

The public operations (`JOIN`, `POLL`, `LEAVE`) are served by the gateway, which knows every position from memory. The
internal ones are served by the queue: it gives out places, lets people in, and remembers who is inside.
"""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from libs.common.clock import epoch_ms, iso_utc
from libs.common.contract.operation import Amount, IsoTime, Model, Operation, PositiveInt, Priority
from libs.common.tickets import ROOM_MAX

CAPACITY_MAX = 10**6
"""The most people one room may have inside at a time."""

RoomId = Annotated[int, Field(ge=1, le=ROOM_MAX, description="one waiting line")]
RoomState = Annotated[
    Literal["open", "paused", "closed"],
    Field(
        description="paused: nobody is let in, everyone keeps the place; closed: no more joins, the line itself goes on"
    ),
]
TicketText = Annotated[str, Field(min_length=1, max_length=64, description="a ticket: the `uuid` of the answer")]


class JoinRequest(Model):
    user_id: Annotated[
        PositiveInt | None, Field(description="for the client's own books; the line does not use it")
    ] = None
    room: RoomId = 1


class TicketView(Model):
    """Where a ticket stands. Position 0 is: come in, or inside."""

    uuid: str
    position: Annotated[Amount, Field(description="people ahead, and oneself; 0: your turn")]
    state: Literal["WAITING", "INSIDE", "ENDED"]
    room: RoomId
    poll_after_ms: Annotated[int, Field(ge=0, description="milliseconds until asking again makes sense")]
    eta_seconds: Annotated[int | None, Field(ge=0, description="estimated wait; null when nobody can say")] = None
    expires_at: Annotated[IsoTime | None, Field(description="when the visit ends; only while inside")] = None


class PollAnswer(Model):
    waiting_queue_with_position_result: TicketView


class Joined(Model):
    """A place in line. `sequence` counts from 1 in order of arrival."""

    ticket: str
    room: RoomId
    sequence: PositiveInt


class ClaimRequest(Model):
    ticket: TicketText


class SessionView(Model):
    """What the queue knows of a ticket. `none`: it has not come in and it is not its turn."""

    ticket: str
    room: RoomId
    sequence: PositiveInt
    state: Annotated[
        Literal["none", "open", "returning", "ended"],
        Field(description="returning: its offer lapsed, the next free place is for it"),
    ]
    until_ms: Annotated[int | None, Field(description="end of the visit, epoch ms; while open and once it was")] = None
    reason: Annotated[Literal["paid", "left", "expired"] | None, Field(description="why it ended")] = None


class RoomView(Model):
    """A room as its document stands. `openSessions` and `unclaimed` are those of the leader's last tick."""

    id: RoomId
    state: RoomState
    capacity: Annotated[Amount, Field(description="people inside at a time")]
    opens_at: Annotated[IsoTime | None, Field(description="before it, joins are taken and nobody is let in")] = None
    watermark: Annotated[Amount, Field(description="highest sequence that was ever let in; never moves back")]
    issued: Annotated[Amount, Field(description="highest sequence given out")]
    rate: Annotated[float, Field(ge=0, description="people let in per second, lately")]
    fence: Annotated[Amount, Field(description="grows with every change of leader")]
    tick: Annotated[Amount, Field(description="grows with every tick")]
    open_sessions: Amount
    unclaimed: Annotated[Amount, Field(description="offered places nobody has taken yet")]
    returning: Annotated[Amount, Field(description="people who came after their offer had lapsed")]
    leader: str | None = None


class RoomsView(Model):
    rooms: list[RoomView]


class RoomPatch(Model):
    """A change by an operator; what is left out stays. `who` and `why` go to the log."""

    who: Annotated[str, Field(min_length=1, max_length=80, description="who asks for the change")]
    why: Annotated[str, Field(min_length=3, max_length=200, description="the reason, one sentence")]
    state: RoomState | None = None
    capacity: Annotated[int | None, Field(ge=0, le=CAPACITY_MAX)] = None
    opens_at: Annotated[IsoTime | None, Field(max_length=40, description="null: opens at once")] = None

    @field_validator("opens_at")
    @classmethod
    def _is_a_time(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            return iso_utc(epoch_ms(value))
        except (ValueError, OverflowError):
            raise ValueError("must be a time with an offset from UTC, such as 2027-01-15T09:00:00Z") from None


JOIN = Operation(
    "joinLine", "queue", "POST", "/api/v1/token/create", "Take a place in line", success=201,
    body=JoinRequest, body_required=False, answer=TicketView, problems=("ROOM_NOT_FOUND", "ROOM_CLOSED"),
    priority=Priority.POLL,
)  # fmt: skip
POLL = Operation(
    "readPlace", "queue", "GET", "/api/v1/token", "Where a ticket stands; the call that first sees 0 comes in",
    answer=PollAnswer, problems=("ROOM_NOT_FOUND",), ticket="any", priority=Priority.POLL,
)  # fmt: skip
LEAVE = Operation(
    "leaveLine", "queue", "DELETE", "/api/v1/token", "Leave, waiting or inside", success=204,
    problems=("ROOM_NOT_FOUND",), ticket="any", priority=Priority.POLL,
)  # fmt: skip
ISSUE = Operation(
    "issueTicket", "queue", "POST", "/internal/v1/joins", "Give out the next place in line", success=201,
    body=JoinRequest, body_required=False, answer=Joined,
    problems=("ROOM_NOT_FOUND", "ROOM_CLOSED", "REQUEST_IN_PROGRESS", "IDEMPOTENCY_MISMATCH"), priority=Priority.POLL,
)  # fmt: skip
CLAIM = Operation(
    "claimPlace", "queue", "POST", "/internal/v1/claims", "Come in, if it is this ticket's turn",
    body=ClaimRequest, answer=SessionView, problems=("TOKEN_INVALID", "ROOM_NOT_FOUND"), priority=Priority.POLL,
)  # fmt: skip
READ_SESSION = Operation(
    "readSession", "queue", "GET", "/internal/v1/sessions/{ticket}", "What is known of a ticket",
    answer=SessionView, problems=("TOKEN_INVALID", "ROOM_NOT_FOUND"), priority=Priority.POLL,
)  # fmt: skip
END_SESSION = Operation(
    "endSession", "queue", "DELETE", "/internal/v1/sessions/{ticket}", "Leave, waiting or inside",
    answer=SessionView, problems=("TOKEN_INVALID", "ROOM_NOT_FOUND"), priority=Priority.POLL,
)  # fmt: skip
READ_ROOMS = Operation(
    "readRooms", "queue", "GET", "/internal/v1/rooms", "Every room as it stands", answer=RoomsView,
)  # fmt: skip
PATCH_ROOM = Operation(
    "changeRoom", "queue", "PATCH", "/internal/v1/rooms/{id}", "Open, pause, close or resize a room",
    body=RoomPatch, answer=RoomView, problems=("ROOM_NOT_FOUND",),
)  # fmt: skip

OPERATIONS = (JOIN, POLL, LEAVE, ISSUE, CLAIM, READ_SESSION, END_SESSION, READ_ROOMS, PATCH_ROOM)
