"""How long after the fault the last saga came to its end, as the documents tell it."""

from collections.abc import Iterable

from libs.common.system import SystemClock
from loadtest.audit.doors.ports import Body
from loadtest.audit.place import find


def settled_s(fault_ended_ms: int, pay_deadline_s: float) -> float:
    """Seconds from the end of the fault until the outcome of the last payment that had begun by then was known.

    Raises CannotRead. A payment without an outcome is the auditor's to tell of.
    """
    documents = find().reader.stores["reservation"].documents(("reservations",))["reservations"]
    began_by_ms = fault_ended_ms + round(pay_deadline_s * 1000)
    last_ms = last_outcome_ms((body for _, _, body in documents), began_by_ms, SystemClock().now_ms())
    return max(0.0, (last_ms - fault_ended_ms) / 1000)


def last_outcome_ms(reservations: Iterable[Body], deadline_upto_ms: int, read_ms: int) -> int:
    """When the last payment of those due by then had its outcome; 0 without any.

    A time after `read_ms` was written by a clock that was ahead, so while the fault lasted: it says nothing of after.
    """
    attempts = (attempt for body in reservations for attempt in body["attempts"])
    return max(
        (
            attempt["settled_ms"]
            for attempt in attempts
            if attempt["settled_ms"] and attempt["settled_ms"] <= read_ms and attempt["deadline_ms"] <= deadline_upto_ms
        ),
        default=0,
    )
