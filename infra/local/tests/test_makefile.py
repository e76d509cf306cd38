"""What the Makefile installs, and when."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from infra.local.tests.harness import ROOT


def a_copy(folder: Path) -> None:
    """The Makefile in a folder of its own, with all that it installs in place but Python itself."""
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("requirements", ".venv/bin"):
        (folder / name).mkdir(parents=True)
    for name in ("run.txt", "dev.txt"):
        (folder / "requirements" / name).touch()
    for name in (".run-stamp", ".dev-stamp"):
        (folder / ".venv" / name).touch()


def outside_make() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}


@pytest.mark.parametrize(("python", "installs"), [(sys.executable, False), ("/no/longer/there", True)])
def test_an_environment_whose_python_is_gone_is_installed_anew(tmp_path: Path, python: str, installs: bool) -> None:
    a_copy(tmp_path)
    (tmp_path / ".venv/bin/python").symlink_to(python)
    would_do = subprocess.run(
        ["make", "--dry-run", "status"],
        cwd=tmp_path,
        env=outside_make(),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout
    assert ("installing requirements/run.txt" in would_do) == installs


@pytest.mark.parametrize("target", ["run", "load", "overload", "incident", "chaos", "nightly"])
def test_sigterm_to_make_ends_what_starts_a_system(tmp_path: Path, target: str) -> None:
    a_copy(tmp_path)
    python = tmp_path / ".venv/bin/python"
    python.write_text("#!/bin/sh\necho $$\nexec sleep 60\n")
    python.chmod(0o755)
    with subprocess.Popen(
        ["make", target], cwd=tmp_path, env=outside_make(), stdout=subprocess.PIPE, text=True
    ) as make:
        assert make.stdout is not None
        started = int(make.stdout.readline())
        make.terminate()
        # What still runs has this pipe open: all of it is read only when everything has ended.
        try:
            make.communicate(timeout=10)
        finally:
            with suppress(ProcessLookupError):
                os.kill(started, signal.SIGKILL)
