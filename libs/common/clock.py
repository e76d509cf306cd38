"""What a clock is. Pure: the clock of the machine lives in `libs.common.system`, the simulated one in the test kit."""

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Time as the product sees it. Passed in everywhere; domain code only ever receives a number."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch, by the wall clock: for facts that are stored or told."""
        ...

    def monotonic_s(self) -> float:
        """Seconds on a clock that never jumps: for deadlines and durations inside one process."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Pause the caller for `seconds` of this clock."""
        ...


def iso_utc(at_ms: int) -> str:
    """`1760000000123` → `2025-10-09T08:53:20.123Z`."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def epoch_ms(text: str) -> int:
    """The reverse of `iso_utc`; any RFC 3339 time with an offset. Raises ValueError for anything else."""
    parsed = datetime.fromisoformat(text)
    if parsed.tzinfo is None:
        raise ValueError(f"{text!r} has no offset from UTC")
    return round(parsed.timestamp() * 1000)
