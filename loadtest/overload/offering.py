"""Requests at a rate, whatever becomes of those before: each is due at a moment, and its time counts from then.

So a system that answers late is charged for everybody who had to wait, and a generator that falls behind charges
itself. One line of the record per request; the figures are made of it afterwards.
"""

import asyncio
import time
from array import array
from collections import Counter
from dataclasses import dataclass, field

from loadtest.overload.mix import KINDS, Mix, Request
from loadtest.raw_client import UNSENT, RawClient

TICK_S = 0.002
DRAIN_S = 12.0
"""Longer than the gateway lets any request take."""

SERVED, REFUSED, FAILED = 0, 1, 2
"""What a request came to: the wanted answer, a refusal that says when to come back, or anything else."""

TOO_MANY, UNAVAILABLE = 429, 503


@dataclass
class Record:
    """Every request of a phase, by columns: seconds after its begin, seconds it took, kind, what it came to."""

    rate_per_s: float
    seconds: float
    due_s: "array[float]" = field(default_factory=lambda: array("d"))
    took_s: "array[float]" = field(default_factory=lambda: array("d"))
    kinds: bytearray = field(default_factory=bytearray)
    outcomes: bytearray = field(default_factory=bytearray)
    failures: Counter[str] = field(default_factory=Counter)
    """Answers nobody should see, by kind and status."""

    unsent: int = 0
    """Requests the generator had no connection for: as bad as unanswered for who wanted them, and nobody's answer."""

    cpu_share: float = 0.0
    """What the generator took of one core."""

    def add(self, kind: int, due_s: float, took_s: float, outcome: int) -> None:
        self.kinds.append(kind)
        self.due_s.append(due_s)
        self.took_s.append(took_s)
        self.outcomes.append(outcome)


class Offering:
    """One crowd at one gateway."""

    def __init__(self, client: RawClient, mix: Mix) -> None:
        self._client = client
        self._mix = mix

    async def offer(self, rate_per_s: float, seconds: float, *, waits: bool = True) -> Record:
        """Offer so many requests a second for so long. `waits`: until the answers that are still to come are there;
        else `settle` does, so that another phase can follow without a pause."""
        record = Record(rate_per_s, seconds)
        began_s, cpu_s, total = time.perf_counter(), time.process_time(), int(rate_per_s * seconds)
        offered = 0
        while offered < total:
            due = min(total, int((time.perf_counter() - began_s) * rate_per_s) + 1)
            while offered < due:
                self._send(record, began_s, offered / rate_per_s)
                offered += 1
            await asyncio.sleep(TICK_S)
        record.cpu_share = (time.process_time() - cpu_s) / (time.perf_counter() - began_s)
        if waits:
            await self.settle(record)
        return record

    async def settle(self, record: Record) -> None:
        """Wait for the answers that are still to come; one that does not is a failure."""
        give_up_s, total = time.perf_counter() + DRAIN_S, int(record.rate_per_s * record.seconds)
        # Counting the answers is all the waiting there is.
        while len(record.kinds) < total and time.perf_counter() < give_up_s:  # noqa: ASYNC110
            await asyncio.sleep(TICK_S)
        if missing := total - len(record.kinds):
            record.failures["no answer"] += missing

    def _send(self, record: Record, began_s: float, due_s: float) -> None:
        request = self._mix.next()

        def answered(status: int, reply: bytes) -> None:
            took_s = time.perf_counter() - began_s - due_s
            record.add(request.kind, due_s, took_s, self._outcome(record, request, status, reply))

        self._client.send(request.raw, answered)

    def _outcome(self, record: Record, request: Request, status: int, reply: bytes) -> int:
        if self._mix.is_wanted(request, status, reply):
            return SERVED
        if status in (TOO_MANY, UNAVAILABLE) and b"\r\nRetry-After: " in reply:
            return REFUSED
        if status == UNSENT:
            record.unsent += 1
            return FAILED
        record.failures[f"{KINDS[request.kind]} {status or 'lost'}"] += 1
        return FAILED
