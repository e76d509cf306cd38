"""What the reservation does, one module per thing it is asked for."""

from collections.abc import Callable

from libs.common.clock import Clock
from services.reservation.metrics import ReservationMetrics
from services.reservation.ports import Books
from services.reservation.service.duties import Duties
from services.reservation.service.holding import Holding
from services.reservation.service.paying import Paying
from services.reservation.service.reading import Reading
from services.reservation.service.settling import Settling
from services.reservation.service.silence import WalletSilence
from services.reservation.service.sweeping import Sweeping
from services.reservation.service.waiting import Waiters
from services.reservation.settings import ReservationSettings


class ReservationService:
    """The parts that routes, handlers and jobs call."""

    def __init__(
        self,
        books: Books,
        settings: ReservationSettings,
        clock: Clock,
        metrics: ReservationMetrics,
        *,
        is_heard: Callable[[], bool],
    ) -> None:
        waiters = Waiters(metrics)
        duties = Duties(books, waiters, metrics)
        silence = WalletSilence(settings, clock, metrics)
        self.holding = Holding(books, duties, settings, clock, metrics)
        self.paying = Paying(books, duties, waiters, settings, clock, silence=silence)
        self.reading = Reading(books, clock)
        self.settling = Settling(books, duties, waiters, settings, clock, silence=silence)
        self.sweeping = Sweeping(books, duties, settings, clock, metrics, silence=silence, is_heard=is_heard)
