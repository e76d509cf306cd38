"""What an audit says: one check per row, each with what it counted and the offences it met."""

from dataclasses import dataclass, field

OFFENCES_KEPT_MAX = 100_000
"""Sentences kept per check: who has read so many needs no more of them."""


@dataclass(slots=True)
class Check:
    """A claim under an invariant of the product, checked on `count` things.

    An offence is a sentence that names the ids and values that clash, and nothing that moves by itself: the same
    offence is the same sentence at the next look. With it goes the time (epoch ms) until which things may be so because
    somebody is still at work on them; 0 is for what must never be, not for a moment.
    """

    invariant: str
    claim: str
    count: int = 0
    offences: dict[str, int] = field(default_factory=dict)

    def offend(self, sentence: str, until_ms: int = 0) -> None:
        if len(self.offences) < OFFENCES_KEPT_MAX:
            self.offences[sentence] = until_ms

    def expect(self, holds: bool, sentence: str) -> None:
        """Count one, and note the sentence where it does not hold."""
        self.count += 1
        if not holds:
            self.offend(sentence)


@dataclass(frozen=True, slots=True)
class Unchecked:
    """An invariant, or a part of one, that nothing at hand could show."""

    invariant: str
    why: str
