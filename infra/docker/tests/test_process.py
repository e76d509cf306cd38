"""A process of a laid-out image: what is wrong with it is told with what it printed."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from infra.docker.image import LaidOut
from infra.docker.process import ImageProcess, run_in, running
from infra.docker.recipe import Stage
from libs.common.errors import ConfigError

ON_SIGTERM = """
import signal, sys, time
signal.signal(signal.SIGTERM, {handler})
print("up", flush=True)
time.sleep(60)
"""
STUBBORN, FAILING = ON_SIGTERM.format(handler="signal.SIG_IGN"), ON_SIGTERM.format(handler="lambda *_: sys.exit(3)")


def image(folder: Path, program: str, **environment: str) -> LaidOut:
    stage = Stage("none", environment=environment, workdir="/app", processes={"CMD": [sys.executable, "-c", program]})
    (folder / "app").mkdir()
    return LaidOut(stage, folder, folder / "packages")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def started(stack: ExitStack, folder: Path, program: str) -> ImageProcess:
    process = stack.enter_context(running(image(folder, program), {}))
    process.wait_until("up", lambda: "up" in process.output)
    return process


def test_one_that_does_not_stop_in_time_is_told_and_ended(stack: ExitStack, tmp_path: Path) -> None:
    process = started(stack, tmp_path, STUBBORN)
    with pytest.raises(ConfigError, match=r"runs on 0.2 s after the stop signal:\nup"):
        process.stop(0.2)


def test_one_that_stops_with_an_error_is_told(stack: ExitStack, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="exit status 3 after the stop signal"):
        started(stack, tmp_path, FAILING).stop(10)


def test_one_that_ends_early_is_told_with_what_it_printed(stack: ExitStack, tmp_path: Path) -> None:
    process = stack.enter_context(running(image(tmp_path, "raise SystemExit('no keys')"), {}))
    with pytest.raises(ConfigError, match=r"not ready .*\nno keys"):
        process.wait_until("ready", lambda: False)


def test_it_sees_its_own_environment_and_nothing_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKER_URL", "of this machine")
    program = "import os; assert 'BROKER_URL' not in os.environ; assert os.environ['A'] + os.environ['B'] == '12'"
    run_in(image(tmp_path, "", A="1"), [sys.executable, "-c", program], {"B": "2"})


def test_a_command_that_hangs_is_told_with_what_it_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.docker.process.COMMAND_S", 1.0)
    hangs = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
    with pytest.raises(ConfigError, match="not ended after 1 s\nup"):
        run_in(image(tmp_path, ""), hangs, {})
