"""`make chaos` as a user types it, on a system of its own: what holds, what is broken, what is skipped."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest
import yaml
from chaoslib.exceptions import InterruptExecution
from chaoslib.exit import exit_signals

from infra.local.settings import ROOMS
from loadtest.buying.crowd import Scene
from loadtest.chaos import running
from loadtest.chaos.actions.place import wait_until
from loadtest.chaos.files import FOLDER, read
from loadtest.chaos.running import Attempt, Notes
from loadtest.chaos.target import Target

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
BRIEF = Path(__file__).with_name("brief.yaml")
HELD, BROKEN, SETTING = 0, 1, 2
RUN_S = 100.0
GONE_WITHIN_S = 15.0


def chaos(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "loadtest.chaos", *words],
        cwd=ROOT,
        env={**os.environ, "BACKENDS": "", "COPIES": "", "TARGET": "", **environment},
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )


def judged(folder: Path, name: str) -> dict[str, Any]:
    run = orjson.loads((folder / f"{name}-embedded-0.json").read_bytes())
    assert (folder / "report.html").is_file()
    return {row["what"]: row["holds"] for row in run["judged"]} | {"run": run}


def test_a_kill_lost_replies_repeated_events_and_forged_tickets_break_nothing(tmp_path: Path) -> None:
    done = chaos("run", "--experiment", str(BRIEF), "--seeds", "1", "--folder", str(tmp_path))
    assert done.returncode == HELD, done.stdout + done.stderr
    found = judged(tmp_path, "brief")
    run = found["run"]
    assert run["result"] == "held"
    assert [name for _, name in run["marks"]] == [
        "forge tickets", "cut replies", "stop cutting", "answers again", "kill the wallet",
    ]  # fmt: skip
    assert {"I1 double sales", "I4 double debits", "I6 acknowledged writes that are lost"} <= found.keys()
    assert run["people"]["came"] > 50
    assert run["errors"], "nobody noticed that replies were cut"
    assert not list(tmp_path.glob("*.logs")), "of a run that held"


def test_a_bound_that_does_not_hold_ends_with_code_1_and_the_fault_is_taken_back(tmp_path: Path) -> None:
    content = yaml.safe_load(BRIEF.read_text())
    content["extensions"][0].update(refuses="", watch_s=1, environment={"DEMO_SCHEDULES": "30", "PAY_WAIT_S": "0.1"})
    processes = {"type": "python", "module": "loadtest.chaos.actions.processes"}
    ask = {"type": "python", "module": "loadtest.chaos.probes", "func": "purchase_works", "arguments": {"within_s": 1}}
    purchase = {"type": "probe", "name": "a purchase works at once", "tolerance": True, "provider": ask}
    content["steady-state-hypothesis"] = {"title": "people buy", "probes": [purchase]}
    freeze = {"provider": {**processes, "func": "pause", "arguments": {"service": "wallet"}}}
    wake = {"provider": {**processes, "func": "resume", "arguments": {"service": "wallet"}}}
    content["method"] = [{"type": "action", "name": "freeze the wallet", **freeze}]
    content["rollbacks"] = [{"type": "action", "name": "wake it up", **wake}]
    path = tmp_path / "frozen.yaml"
    path.write_text(yaml.safe_dump(content))
    done = chaos("run", "--experiment", str(path), "--seeds", "1", "--folder", str(tmp_path))
    assert done.returncode == BROKEN, done.stdout + done.stderr
    found = judged(tmp_path, "frozen")
    assert found["run"]["result"] == "broken"
    assert (found["steady before"], found["steady after"], found["actions that failed"]) == (True, False, True)
    assert found.get("I1 double sales") is True, done.stdout
    assert "a purchase: not within 1 s" in done.stdout
    logs = tmp_path / "frozen-embedded-0.logs"
    assert f"logs: {logs}" in done.stdout
    assert {f"{service}.log" for service in ROOMS} <= {log.name for log in logs.iterdir()}
    assert " stopped" in (logs / "supervisor.log").read_text(), "copied before it had ended"


def test_what_cannot_be_made_here_is_skipped_by_name_without_a_system(tmp_path: Path) -> None:
    done = chaos("run", "--experiment", "F14-store-killed", "--seeds", "1", "--folder", str(tmp_path))
    assert (done.returncode, done.stderr) == (HELD, "")
    assert "skipped: it is about BACKENDS=native" in done.stdout
    for wrong in (chaos("run", "--experiment", "F99"), chaos("run", BACKENDS="natve"), chaos("list", BACKENDS="natve")):
        assert (wrong.returncode, len(wrong.stderr.splitlines()), wrong.stdout) == (SETTING, 1, "")
    assert chaos("run", "--experiment", "F14-store-killed", COPIES="many").returncode == SETTING
    listed = chaos("list").stdout
    assert "F20-two-at-once" in listed
    assert "[skipped: it is about BACKENDS=native]" in listed


@pytest.fixture
def heeds_ctrl_c() -> Iterator[None]:
    """Tests that run in the background of a shell ignore it, and so would whatever they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_ctrl_c")
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_a_series_that_is_ended_makes_no_other_run_and_leaves_no_process(by: signal.Signals, tmp_path: Path) -> None:
    content = yaml.safe_load(BRIEF.read_text())
    content["steady-state-hypothesis"] = {"title": "nobody asks", "probes": []}
    reached = tmp_path / "reached"
    touch = {"type": "process", "path": "touch", "arguments": [str(reached)]}
    content["method"] = [{"type": "action", "name": "wait", "pauses": {"after": 90}, "provider": touch}]
    path = tmp_path / "long.yaml"
    path.write_text(yaml.safe_dump(content))
    words = ("run", "--experiment", f"{path},F14-store-killed", "--seeds", "1", "--folder", str(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-m", "loadtest.chaos", *words], cwd=ROOT, text=True,
        env={**os.environ, "BACKENDS": "", "COPIES": "", "TARGET": ""}, stdout=subprocess.PIPE,
    ) as series:  # fmt: skip
        wait_until(lambda: reached.is_file() or series.poll() is not None, RUN_S, "the method has begun")
        assert reached.is_file()
        started = psutil.Process(series.pid).children(recursive=True)
        assert len(started) > len(ROOMS)
        series.send_signal(by)
        told, _ = series.communicate(timeout=RUN_S)
    assert series.returncode != HELD
    assert "skipped" not in told
    _, left = psutil.wait_procs(started, timeout=GONE_WITHIN_S)
    assert left == []


def test_sigterm_before_a_run_has_begun_ends_the_series_and_leaves_nothing(tmp_path: Path) -> None:
    words = ("run", "--experiment", "F4,F14-store-killed", "--seeds", "1", "--folder", str(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-m", "loadtest.chaos", *words], cwd=ROOT, text=True,
        env={**os.environ, "BACKENDS": "", "COPIES": "", "TARGET": ""}, stdout=subprocess.PIPE,
    ) as series:  # fmt: skip
        starter = psutil.Process(series.pid)
        wait_until(lambda: len(starter.children(recursive=True)) > len(ROOMS), RUN_S, "the system is started")
        started = starter.children(recursive=True)
        state = Path(starter.children()[0].environ()["STATE_DIR"])
        assert state.is_dir()
        series.terminate()
        told, _ = series.communicate(timeout=RUN_S)
    assert "skipped" not in told
    _, left = psutil.wait_procs(started, timeout=GONE_WITHIN_S)
    assert (left, state.exists()) == ([], False)


def test_a_series_that_is_ended_where_the_library_passes_over_it_makes_no_other_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def library(*_: Any, event_handlers: list[Notes], **__: Any) -> dict[str, str]:
        with exit_signals():
            event_handlers[0].started()
            with suppress(InterruptExecution):  # as it does with all that probes and its listeners raise
                os.kill(os.getpid(), signal.SIGTERM)
                raise AssertionError("nothing came of it")
        return {"status": "failed"}

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(running, "run_experiment", library)
    experiment = read(FOLDER / "F04-redis-killed.yaml")
    nowhere = Target((), "", Scene(1, 1, 1), is_own=False, has_supervisor=False, has_stores=False)
    with pytest.raises(KeyboardInterrupt):
        Attempt(experiment, {"seed": 0}, nowhere)._journal(Notes(8.0))
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_run_whose_system_does_not_start_is_broken_with_the_reason_and_the_series_goes_on(tmp_path: Path) -> None:
    content = yaml.safe_load(BRIEF.read_text())
    content["extensions"][0].update(environment={"DEMO_SEATS": "many"})
    path = tmp_path / "unstarted.yaml"
    path.write_text(yaml.safe_dump(content))
    done = chaos("run", "--experiment", f"{path},F14-store-killed", "--seeds", "1", "--folder", str(tmp_path))
    assert done.returncode == BROKEN, done.stdout + done.stderr
    found = judged(tmp_path, "unstarted")
    (row,) = found["run"]["judged"]
    assert (row["what"], row["holds"], found["run"]["result"]) == ("run to its end", False, "broken")
    assert "the system ended" in row["why"]
    assert "the system ended" in done.stdout
    assert "skipped: it is about BACKENDS=native" in done.stdout
    assert "run to its end" in (tmp_path / "report.html").read_text()
