"""What the Makefile installs, and when."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.tests.harness import ROOT


@pytest.mark.parametrize(("python", "installs"), [(sys.executable, False), ("/no/longer/there", True)])
def test_an_environment_whose_python_is_gone_is_installed_anew(tmp_path: Path, python: str, installs: bool) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    for folder in ("requirements", ".venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "requirements/run.txt").touch()
    (tmp_path / ".venv/.run-stamp").touch()
    (tmp_path / ".venv/bin/python").symlink_to(python)
    would_do = subprocess.run(
        ["make", "--dry-run", "status"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout
    assert ("installing requirements/run.txt" in would_do) == installs
