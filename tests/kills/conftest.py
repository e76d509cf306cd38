"""A test that takes `seed` is run once for each seed of this session."""

import pytest

from tests.kills.effort import ALL_SEEN, FIRST, SEEDS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(FIRST, FIRST + SEEDS))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for seen in ALL_SEEN:
        terminalreporter.write_line(f"kills: {seen.line()}")
    if ALL_SEEN:
        terminalreporter.write_line(
            f"kills: in all {sum(len(seen.faults) for seen in ALL_SEEN)} faults in {len(ALL_SEEN)} runs, "
            f"{sum(seen.confirmed for seen in ALL_SEEN):,} of {sum(seen.purchases for seen in ALL_SEEN):,} purchases "
            f"confirmed; slowest ready again {max(max(seen.ready_s, default=0) for seen in ALL_SEEN):.1f} s, "
            f"slowest settling {max(seen.settle_s for seen in ALL_SEEN):.1f} s"
        )
