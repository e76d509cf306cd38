"""The W3C `traceparent` of the work at hand, carried from request to stored event to handler."""

import random
from contextvars import ContextVar

_chance = random.Random()  # noqa: S311  ids of traces have to be distinct, not secret

current: ContextVar[str] = ContextVar("traceparent", default="")
"""`00-<32 hex trace id>-<16 hex span id>-<flags>`, or empty outside of any request."""


def is_valid(traceparent: str) -> bool:
    """True for a version-00 header with non-zero ids in lower-case hex."""
    parts = traceparent.split("-")
    if len(parts) != 4 or [len(part) for part in parts] != [2, 32, 16, 2]:
        return False
    hexadecimal = all(char in "0123456789abcdef" for part in parts for char in part)
    return hexadecimal and parts[0] == "00" and int(parts[1], 16) > 0 and int(parts[2], 16) > 0


def fresh() -> str:
    """A new root: the edge starts one when a request brings none. Random by nature, never part of a decision."""
    # The lowest bit is set: an id of zeros is none.
    return f"00-{_chance.getrandbits(128) | 1:032x}-{_chance.getrandbits(64) | 1:016x}-01"


def trace_id(traceparent: str) -> str:
    """The 32 hex digits that logs, problems and traces share; empty where there is none."""
    return traceparent[3:35]
