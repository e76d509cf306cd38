"""The product with one rule left out, to see whether the simulation notices.

A mutant replaces one function of the real code, in memory, wherever it has been imported to. Each names the rule it
leaves out and the invariants of which one should break. One that no run is expected to find has its reason beside it,
and what catches it: it is a second defence, and is found together with the first (`both`), or it matters for a moment
so short that only a test of its own gets there (`test`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tests.simulation.patching import Undo
from tests.simulation.run import run_seed


@dataclass(frozen=True, slots=True)
class Mutant:
    """`leaves_out` in words; `caught_by` are the invariants of which one should break. Where `survives` says why none
    does, `both` names the mutant without this rule and its twin, or `test` the test that fails."""

    name: str
    leaves_out: str
    apply: Callable[[], Sequence[Undo]]
    caught_by: tuple[str, ...]
    survives: str = ""
    both: str = ""
    test: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a mutant: the seed that caught it and what broke, the test that failed, or neither."""

    name: str
    seeds_tried: int
    seed: int | None
    finding: str
    is_as_expected: bool

    def __str__(self) -> str:
        if not self.seeds_tried:
            return f"{self.name}: {self.finding}{'' if self.is_as_expected else '  ← UNEXPECTED'}"
        if self.seed is None:
            return f"{self.name}: survived {self.seeds_tried} seeds{'' if self.is_as_expected else '  ← UNEXPECTED'}"
        mark = "" if self.is_as_expected else "  ← by another invariant than expected"
        return f"{self.name}: caught by seed {self.seed} after {self.seeds_tried}: {self.finding[:160]}{mark}"


def tried(mutant: Mutant, *, first: int = 0, seeds_max: int = 200) -> Verdict:
    """Run seeds on a mutant until an invariant breaks."""
    with applied(mutant):
        for seed in range(first, first + seeds_max):
            findings = run_seed(seed).findings
            if findings:
                expected = any(finding.invariant in mutant.caught_by for finding in findings)
                return Verdict(mutant.name, seed - first + 1, seed, str(findings[0]), expected)
    return Verdict(mutant.name, seeds_max, None, "", bool(mutant.survives))


@contextmanager
def applied(mutant: Mutant) -> Iterator[None]:
    """The product without the mutant's rule, for as long as the `with` lasts."""
    undo = mutant.apply()
    try:
        yield
    finally:
        for step in reversed(undo):
            step()
