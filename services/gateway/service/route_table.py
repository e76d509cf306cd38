"""Which operation goes where, and how long it may take: from the contract, so that no route can be forgotten."""

from collections.abc import Mapping
from dataclasses import dataclass

from libs.common.contract import catalog, queue, reservation, wallet
from libs.common.contract.operation import Operation, Priority

PUBLIC_OPERATIONS = tuple(
    operation for room in (queue, catalog, reservation, wallet) for operation in room.OPERATIONS if operation.is_public
)

ANSWERED_HERE = (queue.JOIN, queue.POLL, queue.LEAVE)
"""The gateway knows every position from memory; everything else is forwarded."""

READ_TIMEOUT_S = 2.0
WRITE_TIMEOUT_S = 3.0
PAYMENT_MARGIN_S = 3.0
"""What a payment may take beyond the time that the reservation service waits for its outcome."""


@dataclass(frozen=True, slots=True)
class Route:
    """One forwarded operation. `timeout_s` is for the whole call, retries included."""

    operation: Operation
    timeout_s: float


def forwarded_routes(pay_wait_s: float) -> tuple[Route, ...]:
    """Every public operation that a service answers."""
    write_timeouts_s: Mapping[Priority, float] = {Priority.PAYMENT: pay_wait_s + PAYMENT_MARGIN_S}
    return tuple(
        Route(
            operation,
            write_timeouts_s.get(operation.priority, WRITE_TIMEOUT_S) if operation.is_write else READ_TIMEOUT_S,
        )
        for operation in PUBLIC_OPERATIONS
        if operation not in ANSWERED_HERE
    )
