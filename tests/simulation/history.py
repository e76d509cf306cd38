"""What happened in a run, in order: one line per commit, answer, fault and start, and a hash over all of them.

Two runs of one seed have the same hash, in any process; that is what makes a seed a proof and not an anecdote.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable

KEPT_LINES_MAX = 200_000


class History:
    """`keeps`: remember the lines as well, to show them; the hash needs none of them."""

    def __init__(self, now_s: Callable[[], float], *, keeps: bool = False) -> None:
        self._now_s = now_s
        self._keeps = keeps
        self._digest = hashlib.blake2b(digest_size=16)
        self.lines: list[tuple[str, str]] = []
        self.counts: Counter[str] = Counter()

    def add(self, kind: str, subject: str, text: str = "") -> None:
        """`kind` is counted; `subject` is what the line is about: a reservation, a seat, a ticket, an instance."""
        self.counts[kind] += 1
        line = f"{self._now_s():10.3f} {kind:<16} {subject} {text}"
        self._digest.update(line.encode())
        if self._keeps and len(self.lines) < KEPT_LINES_MAX:
            self.lines.append((subject, line))

    def hash(self) -> str:
        return self._digest.hexdigest()

    def about(self, subjects: Iterable[str]) -> list[str]:
        """The lines that name one of the subjects anywhere."""
        wanted = [subject for subject in subjects if subject]
        return [line for subject, line in self.lines if any(name in line or name == subject for name in wanted)]
