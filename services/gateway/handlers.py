"""Events in: what the queue tells of its lines and visits."""

from libs.common.events.queue import LineMoved, SessionClosed, SessionOpened
from libs.common.messaging.dispatch import dispatcher
from libs.common.messaging.ports import Handler
from services.gateway.domain import Line, Standing
from services.gateway.service.lines import LineTable
from services.gateway.service.sessions import SessionTable


def line_handler(lines: LineTable) -> Handler:
    """The handler of `queue.line.v1`."""

    async def on_line_moved(event: LineMoved) -> None:
        lines.hear(Line(event.room, event.fence, event.tick, event.watermark, event.rate, event.state))

    return dispatcher({LineMoved: on_line_moved})


def session_handler(sessions: SessionTable) -> Handler:
    """The handler of `queue.session.v1`."""

    async def on_session_opened(event: SessionOpened) -> None:
        sessions.hear(event.room, event.sequence, Standing(closed=False, until_ms=event.until_ms))

    async def on_session_closed(event: SessionClosed) -> None:
        sessions.hear(event.room, event.sequence, Standing(closed=True, until_ms=event.until_ms))

    return dispatcher({SessionOpened: on_session_opened, SessionClosed: on_session_closed})
