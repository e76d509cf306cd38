"""One running system for all of this package, watched while it is thrown things at: no traceback in a log, no process
that died, no memory that grows. Its dead letters, ledgers and seats are audited when it is stopped."""

import asyncio
from collections.abc import Iterator

import psutil
import pytest

from tests.e2e.system import RunningSystem
from tests.fuzz.effort import BUDGET_S, OVERLOADED, REPORT, SEED, TRIED
from tests.fuzz.wire import Wire

SERVICES = ("queue", "catalog", "reservation", "wallet", "gateway")
KNOBS = {"DEMO_SCHEDULES": "120", "ROOM_CAPACITY": "2000", "ROOMS": "1,2", "HOLD_S": "7200", "PAY_WAIT_S": "4"}
"""Holds outlast any budget, and a payment is waited for on a slow machine too."""

GROWTH_MAX_MIB = 48.0
"""What a service may gain over all of it: keys, marks and visits that it remembers for a while are part of that."""


@pytest.fixture(scope="package")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    running = RunningSystem(tmp_path_factory.mktemp("fuzzed"), **KNOBS).start()
    before = _processes(running)
    rss = {name: process.memory_info().rss for name, process in before.items()}
    yield running
    after = _processes(running)
    assert {name: process.pid for name, process in after.items()} == {name: it.pid for name, it in before.items()}
    grown = {name: (process.memory_info().rss - rss[name]) / 2**20 for name, process in after.items()}
    REPORT.append("memory gained, MiB: " + ", ".join(f"{name} {mib:.0f}" for name, mib in grown.items()))
    running.stop()
    assert {name: mib for name, mib in grown.items() if mib > GROWTH_MAX_MIB} == {}


@pytest.fixture(autouse=True)
def _nothing_of_ours_goes_wrong(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test of a running system leaves a traceback or an error in any log of the services."""
    if "system" not in request.fixturenames:
        yield
        return
    running: RunningSystem = request.getfixturevalue("system")
    logs = {name: running.state_dir / "logs" / f"{name}.log" for name in SERVICES}
    seen = {name: log.stat().st_size for name, log in logs.items()}
    yield
    for name, log in logs.items():
        with log.open("rb") as file:
            file.seek(seen[name])
            lines = file.read().decode(errors="replace").splitlines()
        wrong = [line for line in lines if "Traceback" in line or '"level":"error"' in line or line.startswith("ERROR")]
        assert wrong == [], f"{name}.log"


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    """One event loop for all the examples of a test, which hypothesis calls without one."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def wire(system: RunningSystem, loop: asyncio.Runner) -> Iterator[Wire]:
    """A connection to the gateway, on the loop of the test."""
    wire = Wire(system.port)
    yield wire
    loop.run(wire.close())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if TRIED:
        tried = ", ".join(f"{count:,} {suite}" for suite, count in sorted(TRIED.items()))
        terminalreporter.write_line(f"fuzz: FUZZ_SEED={SEED} FUZZ_BUDGET_S={BUDGET_S:g}: {tried}")
        for line in [*REPORT, f"503 with Retry-After: {dict(OVERLOADED)}"]:
            terminalreporter.write_line(f"fuzz: {line}")


def _processes(running: RunningSystem) -> dict[str, psutil.Process]:
    rows = running.status()
    return {name: psutil.Process(rows[name]["pid"]) for name in SERVICES}
