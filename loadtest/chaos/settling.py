"""How long after the fault the last saga came to its end, as the documents tell it."""

from loadtest.audit.doors.ports import Body
from loadtest.audit.place import find


def settled_s(fault_ended_ms: int, pay_deadline_s: float) -> float:
    """Seconds from the end of the fault until the outcome of the last payment that had begun by then was known.

    Raises CannotRead. A payment without an outcome is the auditor's to tell of.
    """
    documents = find().reader.stores["reservation"].documents(("reservations",))["reservations"]
    began_by_ms = fault_ended_ms + pay_deadline_s * 1000
    known = [
        attempt["settled_ms"]
        for _, _, body in documents
        for attempt in _attempts(body)
        if attempt["settled_ms"] and attempt["deadline_ms"] <= began_by_ms
    ]
    return max(0.0, (max(known, default=0) - fault_ended_ms) / 1000)


def _attempts(body: Body) -> list[Body]:
    found: list[Body] = body["attempts"]
    return found
