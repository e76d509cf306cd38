"""When a hold has lapsed: one test for takers, pins, sweepers and expiry, or they would disagree about a seat."""


def lapsed(until_ms: int, now_ms: int, skew_ms: int) -> bool:
    """True when `until_ms` has passed on every clock, `skew_ms` being the largest error between two of them."""
    return now_ms >= until_ms + skew_ms
