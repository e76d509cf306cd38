"""The machine's own clock. The only module that reads it; everything else is handed a `Clock`."""

import asyncio
import time


class SystemClock:
    """The wall clock and the monotonic clock of this machine (see `libs.common.clock.Clock`)."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
