"""A bounded sample of the simulation: `make simulate SEEDS=2000` is the long form."""

import asyncio
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.simulation.run import Result, run_seed

ROOT = Path(__file__).parents[2]
SEEDS = range(25)
FOLDED = (101190, 102790, 103186, 106184)
"""Seeds that once put two decisions into one write where the checkers knew of one."""

REPLAYED = 3
WITHIN_S = 60


@pytest.fixture(scope="module")
def results() -> list[Result]:
    return [run_seed(seed) for seed in SEEDS]


def test_no_invariant_breaks_whatever_fails(results: list[Result]) -> None:
    assert [f"SEED={result.seed} {finding}" for result in results for finding in result.findings] == []


def test_no_invariant_breaks_where_decisions_share_a_write() -> None:
    assert [f"SEED={seed} {finding}" for seed in FOLDED for finding in run_seed(seed).findings] == []


def test_the_sample_sells_and_suffers(results: list[Result]) -> None:
    counts = sum((result.counts for result in results), Counter[str]())
    faults = sum((result.faults for result in results), Counter[str]())
    assert counts["sales"] >= 5 * len(SEEDS)
    assert counts["visits"] >= 10 * len(SEEDS)
    assert len(faults) >= 12, faults
    assert faults.total() >= 50 * len(SEEDS)


def test_a_seed_repeats_exactly_in_another_process_with_other_hashes(results: list[Result]) -> None:
    replayed = f"from tests.simulation.run import run_seed; print(run_seed({REPLAYED}).hash)"
    environment = {**os.environ, "PYTHONHASHSEED": "4711", "PYTHONPATH": str(ROOT)}
    other = subprocess.run(
        [sys.executable, "-c", replayed], env=environment, cwd=ROOT, capture_output=True, timeout=WITHIN_S, check=True
    )
    assert other.stdout.decode().strip() == results[REPLAYED].hash


def test_clocks_beyond_their_bound_sell_nothing_twice_and_lose_nothing() -> None:
    for seed in SEEDS[:3]:
        assert [str(finding) for finding in run_seed(seed, jumps=True).findings] == []


def test_a_run_in_which_time_stands_still_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_: object) -> None:
        while True:  # noqa: ASYNC110  the standstill itself
            await asyncio.sleep(0)

    monkeypatch.setattr("tests.simulation.run._Play._storm", never)
    assert [finding.invariant for finding in run_seed(0).findings] == ["I8"]
