"""Simulate the product: `python -m tests.simulation run|replay|mutants`; `make simulate` and `make mutants` call it."""

import argparse
import gc
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.simulation.mutants.by_test import judged
from tests.simulation.mutants.table import MUTANTS
from tests.simulation.mutants.trial import Mutant, Verdict
from tests.simulation.report import Totals, story
from tests.simulation.run import Result, run_seed

CHUNK_COUNT = 8
"""Seeds a worker takes at a time: few, because their lengths differ."""

TOLD_EVERY_SEEDS = 500


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 1 when an invariant broke, or when a mutant stayed alive."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("what", choices=("run", "replay", "mutants"))
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds; for mutants the most that one may take")
    parser.add_argument("--first", type=int, default=0, help="the first seed, or the one to replay")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--jumps", action="store_true", help="clocks leave the bound that CLOCK_SKEW_S promises")
    parser.add_argument("--only", default="", help="the name of one mutant")
    given = parser.parse_args(arguments)
    if given.what == "replay":
        return _replay(given.first, jumps=given.jumps)
    with ProcessPoolExecutor(given.workers, multiprocessing.get_context("spawn"), gc.freeze) as pool:
        if given.what == "mutants":
            return _mutants(pool, given.only, given.first, given.seeds)
        return _run(pool, range(given.first, given.first + given.seeds), jumps=given.jumps)


def _run(pool: ProcessPoolExecutor, seeds: range, *, jumps: bool) -> int:
    totals = Totals()
    for result in pool.map(partial(run_seed, jumps=jumps), seeds, chunksize=CHUNK_COUNT):
        totals.add(result)
        if result.findings:
            _say(f"SEED={result.seed} {str(result.findings[0])[:300]}")
        if totals.seeds % TOLD_EVERY_SEEDS == 0 or totals.seeds == len(seeds):  # a run of hours may be ended early
            for line in totals.lines():
                _say(line)
    return 1 if totals.broken else 0


def _replay(seed: int, *, jumps: bool) -> int:
    result: Result = run_seed(seed, keeps_history=True, jumps=jumps)
    for line in story(result):
        _say(line)
    return 1 if result.findings else 0


def _mutants(pool: ProcessPoolExecutor, only: str, first: int, seeds_max: int) -> int:
    chosen = [mutant for mutant in MUTANTS if only in ("", mutant.name)]
    verdicts = {mutant.name: verdict for mutant, verdict in _in_order(pool, chosen, first, seeds_max)}
    by_seed = {name for name, verdict in verdicts.items() if verdict.seed is not None}
    with_twin = {mutant.name for mutant in chosen if mutant.name not in by_seed and mutant.both in by_seed}
    by_test = {mutant.name for mutant in chosen if mutant.test and verdicts[mutant.name].is_as_expected}
    wrong = [name for name, verdict in verdicts.items() if not verdict.is_as_expected]
    alive = [name for name in verdicts if name not in by_seed | with_twin | by_test]
    _say(
        f"{len(verdicts)} mutants: {len(by_seed)} caught by a seed, {len(with_twin)} with the rule beside them, "
        f"{len(by_test)} by a test of their own; alive: {alive}; unexpected: {wrong}"
    )
    return 1 if wrong or alive or not verdicts else 0


def _in_order(
    pool: ProcessPoolExecutor, chosen: Sequence[Mutant], first: int, seeds_max: int
) -> Iterator[tuple[Mutant, Verdict]]:
    for mutant, verdict in zip(
        chosen, pool.map(partial(judged, first=first, seeds_max=seeds_max), chosen), strict=True
    ):
        _say(str(verdict))
        yield mutant, verdict


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
