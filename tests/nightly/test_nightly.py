"""The nightly command: each runs, whatever became of the one before, and the end tells."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.nightly import __main__ as nightly
from tests.nightly.__main__ import NIGHT, ROOT, Long, main

PASSES = Long("passes", (sys.executable, "-c", ""), 30)
FAILS = Long("fails", (sys.executable, "-c", "raise SystemExit(3)"), 30)
HANGS = Long("hangs", (sys.executable, "-c", "import time; time.sleep(60)"), 0.5)
CANNOT = Long("cannot", ("no-such-command",), 30, needs=("no-such-command",))


def test_one_that_fails_does_not_stop_the_next_and_the_end_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([FAILS, PASSES]) == 1
    told = capsys.readouterr().out
    assert re.search(r"fails +│ FAILED +│ [\d.]+ +│ exit code 3", told)
    assert re.search(r"passes +│ passed", told)


def test_one_that_does_not_end_is_ended(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([HANGS]) == 1
    assert "not over after 1 s" in capsys.readouterr().out


@pytest.mark.parametrize("is_polite", [True, False], ids=["hears SIGINT", "hears nothing"])
def test_what_it_started_is_ended_with_it_in_whatever_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_polite: bool
) -> None:
    monkeypatch.setattr(nightly, "ENDING_S", 5.0 if is_polite else 0.5)
    parent, child = starts_a_system(tmp_path, is_polite=is_polite)
    assert main([Long("hangs", parent, 2.0)]) == 1
    assert is_gone(int(child.read_text()))


def test_a_night_that_is_ended_early_ends_the_one_that_runs_and_tells_of_those_before(tmp_path: Path) -> None:
    parent, child = starts_a_system(tmp_path, is_polite=True)
    night = f"Long('passes', {PASSES.command!r}, 30), Long('hangs', {parent!r}, 30), Long('next', ('true',), 30)"
    program = tmp_path / "night.py"
    program.write_text(
        "import signal, sys\nfrom tests.nightly.__main__ import Long, _stop, main\n"
        f"signal.signal(signal.SIGTERM, _stop)\nsys.exit(main([{night}]))"
    )
    with subprocess.Popen(
        [sys.executable, str(program)], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    ) as running:
        give_up_s = time.monotonic() + 20
        while not (child.exists() and child.read_text()) and time.monotonic() < give_up_s:
            time.sleep(0.05)
        running.send_signal(signal.SIGTERM)
        told, _ = running.communicate(timeout=20)
    assert running.returncode == 1
    assert re.search(r"passes +│ passed", told)
    assert re.search(r"hangs +│ FAILED +│ [\d.]+ +│ the night was ended", told)
    assert "next" not in told
    assert is_gone(int(child.read_text()))


def is_gone(pid: int) -> bool:
    """Also as a zombie: who adopts it in a container may never ask for it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def starts_a_system(folder: Path, *, is_polite: bool) -> tuple[tuple[str, ...], Path]:
    """A command that starts a process in a group of its own, as a system is, and the file with its pid. The polite one
    ends it when it is told to end; the other ends neither it nor itself."""
    pid = folder / "pid"
    on_int = "child.terminate(); child.wait(); sys.exit(0)" if is_polite else "pass"
    program = folder / "starts.py"
    program.write_text(
        "import pathlib, signal, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], process_group=0)\n"
        f"def told(*_): {on_int}\n"
        "signal.signal(signal.SIGINT, told)\n"
        f"pathlib.Path({str(pid)!r}).write_text(str(child.pid))\n"
        "while True: time.sleep(60)\n"
    )
    return (sys.executable, str(program)), pid


def test_what_a_machine_lacks_is_passed_over_by_name_and_fails_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([CANNOT, PASSES]) == 0
    assert re.search(r"cannot +│ passed over +│ 0.0 +│ needs no-such-command", capsys.readouterr().out)


@pytest.mark.parametrize("long", NIGHT, ids=lambda long: long.name)
def test_everything_of_the_night_is_a_target_of_the_makefile(long: Long) -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert long.command[0] == "make"
    assert re.search(rf"^{long.command[1]}:", makefile, re.MULTILINE)
