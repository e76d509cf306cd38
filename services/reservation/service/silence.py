"""A wallet that is silent: when payments are not begun for now.

A payment that begins while nobody answers ends with its deadline: called off, its seats lost. It is also one more that
the wallet has to charge and give back when it returns, before anything that is asked by then. So once a whole deadline
has passed without a word, payments are refused and holds stay as they are; one is let through now and then to find out.
"""

from libs.common import log
from libs.common.clock import Clock
from libs.common.errors import DependencyDown
from services.reservation.metrics import ReservationMetrics
from services.reservation.settings import ReservationSettings

TRY_EVERY_S = 5.0
"""While the wallet is silent one payment in this time is let through."""

ASK_AGAIN_S = 2

logger = log.get_logger(__name__)


class WalletSilence:
    """What this instance has heard of the wallet. Its answers go to one instance each; of others it knows by the news
    that a payment was confirmed or declined."""

    def __init__(self, settings: ReservationSettings, clock: Clock, metrics: ReservationMetrics) -> None:
        self._deadline_s = settings.pay_deadline_s
        self._clock = clock
        self._metrics = metrics
        self._heard_s = clock.monotonic_s()
        self._tried_s: float | None = None
        """While it is silent: when a payment was last let through."""

    def heard(self) -> None:
        """The wallet has answered, whomever and whatever."""
        self._heard_s = self._clock.monotonic_s()
        if self._tried_s is not None:
            self._tried_s = None
            self._metrics.wallet_silent.set(0)
            logger.info("the wallet answers again")

    def overdue(self) -> None:
        """A payment was called off, because its deadline has passed."""
        now_s = self._clock.monotonic_s()
        if self._tried_s is None and now_s - self._heard_s >= self._deadline_s:
            self._tried_s = now_s
            self._metrics.wallet_silent.set(1)
            logger.warning("the wallet is silent, payments are refused", heard_s_ago=round(now_s - self._heard_s))

    def check(self) -> None:
        """Raise DependencyDown for a payment that shall not begin now."""
        if self._tried_s is None:
            return
        now_s = self._clock.monotonic_s()
        if now_s - self._tried_s < TRY_EVERY_S:
            raise DependencyDown(
                "Payments are not answered at the moment. Your seats stay held; pay again in a moment.",
                retry_after_s=ASK_AGAIN_S,
            )
        self._tried_s = now_s
