"""Looking at a system that moves, without seeing ghosts.

A running system is read while it writes: a reservation is read a moment before its seat, a charge a moment after its
reservation. So no first impression is reported. Where something looks wrong, the whole system is read again after
`BETWEEN_LOOKS_S`, and only what is wrong *in the same words* both times is an offence: the sentence names the ids and
the values that clash, so a thing that moved on meanwhile says something else, or nothing. What may be so because
somebody is still at work on it (a payment under way, an event not yet published) is no offence before its own deadline
and the grace after that; until then it counts as under way.

With `settle_s` the caller says that the load and the faults are over. Then a thing under way gets that much time, and
not more, to come to rest; looks are repeated until everything has. A system that does not run has nobody to bring
anything to rest, so what was under way there is only counted.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadtest.audit.verdict import Check
from loadtest.audit.world import World

BETWEEN_LOOKS_S = 2.5

Judge = Callable[[], tuple[World, list[Check]]]
"""Reads the system once, and judges it. Raises CannotRead."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A check and what came of it. `under_way` are sentences that are not offences yet."""

    check: Check
    offences: Sequence[str]
    under_way: Sequence[str]


@dataclass(frozen=True, slots=True)
class Seen:
    """The last of `looks` looks, and what came of all of them."""

    world: World
    findings: Sequence[Finding]
    looks: int

    @property
    def offence_count(self) -> int:
        return sum(len(finding.offences) for finding in self.findings)


def look(judge: Judge, *, is_running: bool, settle_s: float = 0.0) -> Seen:
    """Look as often as it takes. Raises CannotRead."""
    give_up_s = time.monotonic() + settle_s
    wants_rest = is_running and settle_s > 0
    before: set[tuple[str, str]] = set()
    looks = 0
    while True:
        world, checks = judge()
        looks += 1
        wrong, moving = _sorted_out(world, checks, is_running=is_running)
        is_over = time.monotonic() >= give_up_s
        seen = wrong | moving
        if wants_rest and is_over:
            wrong, moving = seen, set()
        confirmed = wrong & before
        is_settled = not (wants_rest and moving)
        if is_settled and (confirmed == wrong or (looks > 1 and is_over)):
            return Seen(world, [_finding(check, confirmed, moving) for check in checks], looks)
        before = seen
        del world, checks  # or two of them would be in memory at once
        time.sleep(BETWEEN_LOOKS_S)


def _sorted_out(
    world: World, checks: Sequence[Check], *, is_running: bool
) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """Claims and sentences of what is wrong now, and of what is under way."""
    wrong: set[tuple[str, str]] = set()
    moving: set[tuple[str, str]] = set()
    for check in checks:
        for sentence, until_ms in check.offences.items():
            is_due = until_ms == 0 or (is_running and until_ms + world.rules.skew_ms <= world.began_ms)
            (wrong if is_due else moving).add((check.claim, sentence))
    return wrong, moving


def _finding(check: Check, confirmed: set[tuple[str, str]], moving: set[tuple[str, str]]) -> Finding:
    named = list(check.offences)
    return Finding(
        check,
        offences=[sentence for sentence in named if (check.claim, sentence) in confirmed],
        under_way=[sentence for sentence in named if (check.claim, sentence) in moving],
    )
