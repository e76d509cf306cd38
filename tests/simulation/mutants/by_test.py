"""A test of its own on a mutant that no run of the simulation gets to: a rule whose moment is too short for buyers.

The test runs in a second process, with this module as a plugin of pytest that leaves the rule out once everything is
imported. It counts as caught when the test fails there; that it passes without the mutant is what `make test` shows.
"""

import os
import subprocess
import sys

import pytest

from tests.simulation.mutants.table import MUTANTS
from tests.simulation.mutants.trial import Mutant, Verdict, tried

NAMED = "STAGEDOOR_MUTANT"
TIMEOUT_S = 120.0


def fails_its_test(mutant: Mutant) -> Verdict:
    """Run the mutant's test on it."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", __name__, mutant.test],
        env={**os.environ, NAMED: mutant.name},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    failed = done.returncode == pytest.ExitCode.TESTS_FAILED
    return Verdict(mutant.name, 0, None, f"failed: {mutant.test}" if failed else done.stdout[-300:], failed)


def judged(mutant: Mutant, *, first: int, seeds_max: int) -> Verdict:
    """Try a mutant by its test or by seeds. Here and not in `__main__`, which a spawned worker does not import."""
    return fails_its_test(mutant) if mutant.test else tried(mutant, first=first, seeds_max=seeds_max)


def pytest_collection_finish() -> None:
    """Leave the rule out for the rest of this process."""
    (mutant,) = (each for each in MUTANTS if each.name == os.environ[NAMED])
    mutant.apply()
