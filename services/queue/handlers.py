"""Events in: a ticket that has bought has done its work."""

from libs.common.events.reservation import ReservationConfirmed
from libs.common.messaging.dispatch import dispatcher
from libs.common.messaging.ports import Handler
from libs.common.tickets import Ticket
from services.queue.service.visitors import Visitors


def outcomes_handler(visitors: Visitors) -> Handler:
    """The handler of `reservation.outcomes.v1`."""

    async def on_reservation_confirmed(event: ReservationConfirmed) -> None:
        if event.room is not None and event.sequence is not None:  # static tickets are never used up
            await visitors.paid(Ticket(event.ticket, event.room, event.sequence))

    return dispatcher({ReservationConfirmed: on_reservation_confirmed})
