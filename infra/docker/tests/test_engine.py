"""Without an engine one sentence says so; secrets are made once."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from infra.docker.engine import ROOT, prepare_secrets
from libs.common.tickets import TicketCodec


def test_secrets_are_made_once_for_the_services_and_for_nobody_else_on_this_machine(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    prepare_secrets(folder)
    made = {path.name: path.read_text() for path in folder.iterdir()}
    TicketCodec.from_settings(made["ticket_keys"].strip(), signing_key=1)
    assert len(made["grafana_admin_password"].strip()) >= 20
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o644}
    prepare_secrets(folder)
    assert {path.name: path.read_text() for path in folder.iterdir()} == made


def without_engine(*verb: str, **environment: str) -> subprocess.CompletedProcess[str]:
    nowhere = {**os.environ, "PATH": "/nowhere", **environment}
    command = [sys.executable, "-m", "infra.docker", *verb]
    return subprocess.run(command, cwd=ROOT, env=nowhere, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("verb", ["up", "down"])
def test_without_an_engine_one_sentence_says_what_is_missing(verb: str) -> None:
    ended = without_engine(verb)
    assert (ended.returncode, ended.stdout, len(ended.stderr.splitlines())) == (1, "", 1)
    assert ended.stderr.startswith(f"make {verb} needs a container engine")


@pytest.mark.parametrize(("required", "status", "word"), [("", 0, "SKIPPED"), ("1", 1, "FAILED")])
def test_without_an_engine_each_suite_is_named(required: str, status: int, word: str) -> None:
    ended = without_engine("serve", "--", "pytest", "a/test_bus.py", "b/test_store.py", REQUIRE_CONTAINERS=required)
    assert ended.returncode == status
    assert [line.split(":")[0] for line in ended.stdout.splitlines()] == [
        f"{word} a/test_bus.py",
        f"{word} b/test_store.py",
    ]
