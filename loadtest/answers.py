"""What an answer of the system means, whichever engine made the load. `k6/answers.js` says the same to k6."""

PEOPLES_BUSINESS = ("SEAT_TAKEN", "TOO_MANY_SEATS", "HOLD_EXPIRED", "NOT_ENOUGH_POINTS")
"""Codes of refusals that are answers: somebody was faster, or wants too much."""

SHED = (429, 503)
"""Statuses by which the system defends itself."""


def is_success(status: int) -> bool:
    return 200 <= status < 300


def meaning(status: int, code: str | None) -> str:
    """The counter of `loadtest.tally.Tally` for an answer that is no success; status 0 is no answer at all."""
    if code in PEOPLES_BUSINESS:
        return "outcomes"
    return "refused" if status in SHED else "failures"
