"""Events in: news of seats, and of schedules that went on sale."""

from libs.common.events.catalog import SchedulePublished
from libs.common.events.reservation import SeatsHeld, SeatsReleased, SeatsSold
from libs.common.messaging.dispatch import dispatcher
from libs.common.messaging.ports import Handler
from services.catalog.service.catalog import CatalogService


def seats_handler(service: CatalogService) -> Handler:
    """The handler of `reservation.seats.v1`. A pinned seat is told by no event: it stays as taken as it was held."""

    async def on_seats_held(event: SeatsHeld) -> None:
        service.merge_seats(event.schedule, event.seats, "held")

    async def on_seats_released(event: SeatsReleased) -> None:
        service.merge_seats(event.schedule, event.seats, "free")

    async def on_seats_sold(event: SeatsSold) -> None:
        service.merge_seats(event.schedule, event.seats, "sold")

    return dispatcher({SeatsHeld: on_seats_held, SeatsReleased: on_seats_released, SeatsSold: on_seats_sold})


def schedules_handler(service: CatalogService) -> Handler:
    """The handler of `catalog.schedules.v1`: what other copies of the catalog published."""

    async def on_schedule_published(event: SchedulePublished) -> None:
        service.schedule_published(event.concert, event.schedule)

    return dispatcher({SchedulePublished: on_schedule_published})
