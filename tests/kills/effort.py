"""How many runs of each experiment, from which seed; and what all of them saw.

    KILLS_SEEDS   runs of each experiment, one by default
    KILLS_FIRST   seed of the first of them

A seed decides what is done, in which order and at which moments. What the system has under way at such a moment is the
machine's affair, so a seed that failed says where to look and is no replay.
"""

import os
from dataclasses import dataclass, field

SEEDS = int(os.environ.get("KILLS_SEEDS", "1"))
FIRST = int(os.environ.get("KILLS_FIRST", "0"))


@dataclass
class Seen:
    """What one run saw. `ready_s` are seconds from the start of a process, or the end of its pause, to the readiness
    of everything; `away_s` is the same from the moment of the fault; `settle_s` from the end of the last fault until
    nothing was under way."""

    experiment: str
    seed: int
    faults: list[str] = field(default_factory=list)
    ready_s: list[float] = field(default_factory=list)
    away_s: list[float] = field(default_factory=list)
    settle_s: float = 0.0
    purchases: int = 0
    confirmed: int = 0
    visits: int = 0
    polls: int = 0
    tries_again: int = 0

    def line(self) -> str:
        """For a person."""
        slowest = (
            f"ready again in {max(self.ready_s, default=0):.1f} s at most, {max(self.away_s, default=0):.1f} s away"
        )
        sold = f"{self.confirmed} of {self.purchases} purchases confirmed, {self.visits} people in from the line"
        return (
            f"{self.experiment} seed {self.seed}: {len(self.faults)} faults ({', '.join(self.faults)}); {slowest}; "
            f"settled in {self.settle_s:.1f} s; {sold}, {self.polls:,} polls, {self.tries_again:,} requests sent again"
        )


ALL_SEEN: list[Seen] = []
