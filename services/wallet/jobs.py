"""The one background cycle: ledgers are looked at again."""

from libs.common.clock import Clock
from libs.common.jobs import Cycle
from services.wallet.metrics import WalletMetrics
from services.wallet.service import WalletService

CHECK_EVERY_S = 5.0


def cycles(service: WalletService, clock: Clock, metrics: WalletMetrics) -> list[Cycle]:
    return [Cycle("check_ledgers", CHECK_EVERY_S, service.check_ledgers, clock, metrics)]
