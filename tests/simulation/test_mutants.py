"""The mutants themselves: each still finds what it replaces, puts it back, and the plainest are caught at once."""

import pytest

from services.reservation.domain import block, lapse
from tests.simulation.mutants.by_test import fails_its_test
from tests.simulation.mutants.table import MUTANTS
from tests.simulation.mutants.trial import Mutant, applied, tried

AT_ONCE = ("no-pin", "decline-unpins", "no-balance-guard", "blind-writes", "anyone-may-see", "new-id-each-time")
SEEDS_MAX = 5


def named(name: str) -> Mutant:
    return next(mutant for mutant in MUTANTS if mutant.name == name)


def test_every_mutant_has_a_name_of_its_own_and_an_invariant_to_break() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert all(mutant.caught_by for mutant in MUTANTS)


def test_what_no_run_is_expected_to_find_names_what_does() -> None:
    names = {mutant.name for mutant in MUTANTS if not mutant.survives}
    for mutant in MUTANTS:
        assert bool(mutant.survives) == bool(mutant.both or mutant.test)
        assert not mutant.both or mutant.both in names


@pytest.mark.parametrize("mutant", [each for each in MUTANTS if each.test], ids=lambda mutant: mutant.name)
def test_a_mutant_with_a_test_of_its_own_fails_it(mutant: Mutant) -> None:
    verdict = fails_its_test(mutant)
    assert verdict.is_as_expected, str(verdict)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_finds_what_it_replaces(mutant: Mutant) -> None:
    with applied(mutant):
        pass
    assert vars(block)["lapsed"] is lapse.lapsed


def test_a_mutant_is_gone_when_its_trial_is_over() -> None:
    kept = block.hold
    with applied(named("own-seat-reset")):
        assert block.hold is not kept
    assert block.hold is kept


@pytest.mark.parametrize("name", AT_ONCE)
def test_a_plain_mutant_is_caught_by_the_first_seeds(name: str) -> None:
    verdict = tried(named(name), seeds_max=SEEDS_MAX)
    assert verdict.seed is not None
    assert verdict.is_as_expected, str(verdict)
