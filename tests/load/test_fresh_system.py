"""A measurement that cannot be made says why in one sentence, and ends with 2."""

import subprocess
import sys
from pathlib import Path

import pytest

from loadtest import fresh_system
from loadtest.errors import CannotRun
from loadtest.fresh_system import ROOT, FreshSystem, ports_in_a_row


def test_a_system_that_ends_at_once_is_a_typed_error() -> None:
    with (
        pytest.raises(CannotRun, match="the system ended, or was not ready within 120 s"),
        FreshSystem({}, command=("this",)),
    ):
        pass


def test_where_no_ports_are_free_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh_system, "port_is_free", lambda _: False)
    with pytest.raises(CannotRun, match="no free ports for a system of its own"):
        ports_in_a_row(3)


def test_a_command_that_cannot_run_ends_with_2_and_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.bench", "booking", "--script", "loadtest/k6/booking.js"],
        cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("k6: not on PATH; ")
