"""What a checker found: which invariant is broken, how, and whom it concerns."""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.simulation.history import History

FINDINGS_MAX = 50


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken invariant. `subjects` are the ids whose history explains it."""

    invariant: str
    text: str
    subjects: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.invariant}: {self.text}"


class Findings:
    """The findings of one run, in order; the first is the one to look at."""

    def __init__(self, history: History) -> None:
        self._history = history
        self.found: list[Finding] = []

    def add(self, invariant: str, text: str, *subjects: str) -> None:
        if len(self.found) < FINDINGS_MAX:
            self.found.append(Finding(invariant, text, subjects))
            self._history.add("VIOLATION", subjects[0] if subjects else "-", f"{invariant}: {text}")

    def check(self, holds: bool, invariant: str, text: str, subjects: Sequence[str] = ()) -> None:
        """A finding unless `holds`."""
        if not holds:
            self.add(invariant, text, *subjects)
