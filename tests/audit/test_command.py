"""`make audit` as a user meets it: where it finds the system, what it prints, how it ends."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.audit.scene import Ground

ROOT = Path(__file__).parents[2]
OK, OFFENCES, UNREADABLE = 0, 1, 2


def audit(state_dir: Path, *options: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "loadtest.audit", *options],
        cwd=ROOT,
        env={"STATE_DIR": str(state_dir), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_clean_stopped_system_is_told_as_such_with_what_was_not_checked(ground: Ground) -> None:
    done = audit(ground.folder.parent)
    assert (done.returncode, done.stderr) == (OK, "")
    assert "no offence in 6 reservations" in done.stdout
    for named in ("own Redis is not running", "nobody could keep them", "HISTORY=FILE", "LIVE=http", "wallet routes"):
        assert named in done.stdout


def test_damage_is_named_for_people_and_for_machines(ground: Ground) -> None:
    ground.edit("entries", "1:2", lambda body: body.update(balance_after=-5))
    done = audit(ground.folder.parent)
    assert done.returncode == OFFENCES
    assert "entry 1:2 leaves user 1 with -5" in done.stdout
    told = json.loads(audit(ground.folder.parent, "--json").stdout)
    below_zero = next(check for check in told["checks"] if check["invariant"] == "I3")
    assert below_zero["named"] == ["entry 1:2 leaves user 1 with -5"]
    assert (below_zero["offences"], below_zero["checked"]) == (1, told["documents"]["entries"])
    assert told["offences"] > 1


def test_a_history_is_checked_when_it_is_given(ground: Ground) -> None:
    ground.with_history()
    path = ground.folder / "history.jsonl"
    done = audit(ground.folder.parent, "--history", str(path))
    assert done.returncode == OK
    assert "what was acknowledged is there" in done.stdout


def test_a_history_without_a_call_is_none(ground: Ground) -> None:
    path = ground.folder / "history.jsonl"
    path.write_bytes(b"")
    done = audit(ground.folder.parent, "--history", str(path))
    assert done.returncode == OK
    assert "not checked: I6 I9 I11 I12 I15: what clients saw: no history with a call" in done.stdout


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"STORE_URL": "memory://"}, "STORE_URL: nobody outside can read memory://"),
        ({"STORE_URL": "sqlite:////nowhere/at/all"}, "/nowhere/at/all/reservation.db is not there"),
        ({"BROKER_URL": "redis://127.0.0.1:1"}, "the broker's Redis"),
        ({"STORE_URL": "mongodb://127.0.0.1:1"}, "database stagedoor_reservation: "),
        ({"CLOCK_SKEW_S": "soon"}, "CLOCK_SKEW_S: expected a number"),
    ],
)
def test_what_cannot_be_read_is_one_sentence_and_an_end_of_its_own(
    ground: Ground, environment: dict[str, str], sentence: str
) -> None:
    done = audit(ground.folder.parent, **environment)
    assert (done.returncode, done.stdout) == (UNREADABLE, "")
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_document_of_another_shape_is_one_sentence_and_not_a_crash(ground: Ground) -> None:
    ground.edit("reservations", ground.kept.reservations["bought"], lambda body: body.pop("status"))
    done = audit(ground.folder.parent)
    assert (done.returncode, done.stdout) == (UNREADABLE, "")
    assert "not of the shape that services write (KeyError: 'status'" in done.stderr
