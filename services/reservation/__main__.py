"""Run the reservation: `python -m services.reservation`."""

from libs.common.web.serving import Listening, main
from services.reservation.app import create_app
from services.reservation.settings import ReservationSettings

if __name__ == "__main__":
    main("reservation", ReservationSettings, lambda settings: [Listening(create_app(settings), settings.port)])
