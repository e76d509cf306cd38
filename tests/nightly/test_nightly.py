"""The nightly command: each runs, whatever became of the one before, and the end tells."""

import re
import sys

import pytest

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


def test_what_a_machine_lacks_is_passed_over_by_name_and_fails_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([CANNOT, PASSES]) == 0
    assert re.search(r"cannot +│ passed over +│ 0.0 +│ needs no-such-command", capsys.readouterr().out)


@pytest.mark.parametrize("long", NIGHT, ids=lambda long: long.name)
def test_everything_of_the_night_is_a_target_of_the_makefile(long: Long) -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert long.command[0] == "make"
    assert re.search(rf"^{long.command[1]}:", makefile, re.MULTILINE)
