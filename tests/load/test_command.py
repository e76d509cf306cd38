"""The real command: a fresh system, a few users for five seconds, the report, the exit code."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.load.stub import Quiet, serving

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 120


def put_load(folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "loadtest", "smoke", "--folder", str(folder), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


class Broken(Quiet):
    """A system that is ready, and answers nothing else."""

    def do_GET(self) -> None:  # noqa: N802 (the names are those of http.server)
        self.send_response(200 if self.path == "/readyz" else 500)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def broken() -> Iterator[str]:
    with serving(Broken) as where:
        yield where


@pytest.mark.e2e
def test_a_load_that_is_served_ends_with_0_a_report_and_a_line(tmp_path: Path) -> None:
    done = put_load(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "offered" in done.stdout
    (report,) = tmp_path.glob("*-smoke.html")
    text = report.read_text()
    for title in ("Iterations", "Latency of requests", "CPU", "Memory", "Line", "Time to settle a payment"):
        assert f"<figcaption>{title} " in text
    row = (tmp_path / "results.md").read_text().splitlines()[-1]
    assert "| smoke | locust |" in row
    assert row.endswith("| 0 | passed: every threshold holds |")


def test_a_missed_threshold_ends_with_1_and_says_which(tmp_path: Path, broken: str) -> None:
    done = put_load(tmp_path, "--users", "10", "--target", broken)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED: " in done.stdout
    assert "failures: " in done.stdout


def test_what_cannot_be_run_ends_with_2_and_one_sentence(tmp_path: Path) -> None:
    nobody = put_load(tmp_path, "--target", "http://127.0.0.1:9")
    assert (nobody.returncode, nobody.stderr.count("\n")) == (2, 1)
    assert nobody.stderr.startswith("TARGET: http://127.0.0.1:9/readyz does not answer")
    engine = put_load(tmp_path, "--engine", "siege")
    assert (engine.returncode, engine.stderr) == (2, "ENGINE: locust or k6 (given: 'siege')\n")
    assert list(tmp_path.iterdir()) == []
