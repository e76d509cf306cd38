"""What a batch of seeds came to, in figures and in words."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.simulation.run import Result

SHOWN_MAX = 10
STORY_LINES_MAX = 400


@dataclass
class Totals:
    """Sums over the runs of a batch."""

    seeds: int = 0
    simulated_s: float = 0.0
    real_s: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    broken: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        self.seeds += 1
        self.simulated_s += result.simulated_s
        self.real_s += result.real_s
        self.counts.update(result.counts)
        self.faults.update(result.faults)
        if result.findings:
            self.broken.append(result)

    def lines(self) -> Iterable[str]:
        """The figures, one thing a line."""
        counts = " ".join(f"{name}={count}" for name, count in sorted(self.counts.items()))
        yield f"seeds {self.seeds}: {counts}"
        kinds = " ".join(f"{name}={count}" for name, count in sorted(self.faults.items()))
        yield f"faults {self.faults.total()}: {kinds}"
        factor = self.simulated_s / self.real_s if self.real_s else 0.0
        yield f"simulated {self.simulated_s / 3600:.1f} h at {factor:.0f} times real time on one core"
        yield f"violations {len(self.broken)}"
        for result in self.broken[:SHOWN_MAX]:
            yield f"  SEED={result.seed} {str(result.findings[0])[:300]}"


def story(result: Result) -> Iterable[str]:
    """The history of one run: of what its violations concern, or all of it where there is none."""
    yield from result.story[-STORY_LINES_MAX:]
    yield from (f"VIOLATION {finding}" for finding in result.findings)
    yield f"seed {result.seed} hash {result.hash} simulated {result.simulated_s:.0f} s"
