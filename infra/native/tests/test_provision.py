"""What is fetched, where it goes, and what is said when it cannot be had. Nothing here downloads anything."""

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from infra.native import provision
from infra.native.provision import cache_folder, fetch_jars, parts, planned_jars
from libs.common.errors import ConfigError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "stagedoor"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def program(folder: Path, name: str, script: str = "") -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


JAVA_17 = "echo 'openjdk version \"17.0.15\" 2025-04-15' >&2"


def test_the_cache_is_where_the_user_keeps_caches() -> None:
    assert cache_folder({"XDG_CACHE_HOME": "/c"}) == Path("/c/stagedoor")
    assert cache_folder({"XDG_CACHE_HOME": ""}) == Path.home() / ".cache" / "stagedoor"


def test_without_java_one_sentence_says_what_to_install(programs: Path) -> None:
    with pytest.raises(ConfigError, match=r"^BACKENDS: native needs java on PATH; install Java 17 or later and Maven"):
        planned_jars()


def test_a_java_that_kafka_does_not_run_on_is_refused(programs: Path) -> None:
    program(programs, "java", "echo 'openjdk version \"11.0.2\"' >&2")
    with pytest.raises(ConfigError, match=r"needs Java 17 or later, .*/java is older"):
        planned_jars()


def test_a_java_that_does_not_answer_is_refused(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(programs, "java", "exec /bin/sleep 60")
    monkeypatch.setattr(provision, "JAVA_S", 0.2)
    with pytest.raises(ConfigError, match=r"needs Java 17 or later, .*/java is older or does not run"):
        planned_jars()


def test_maven_is_only_asked_for_while_something_has_to_be_fetched(programs: Path, empty_cache: Path) -> None:
    program(programs, "java", JAVA_17)
    with pytest.raises(ConfigError, match="native needs mvn and javac on PATH"):
        planned_jars()
    provision._jars_folder().mkdir(parents=True)
    assert planned_jars().are_there


def test_a_fetch_that_fails_says_mavens_own_words_and_leaves_nothing_half_done(
    programs: Path, empty_cache: Path
) -> None:
    program(programs, "java", JAVA_17)
    program(programs, "javac")
    program(programs, "mvn", "echo '[ERROR] no such artifact'; exit 1")
    with pytest.raises(ConfigError, match=r"Maven could not fetch .*: \[ERROR\] no such artifact"):
        fetch_jars(lambda _: None)
    assert [path.name for path in empty_cache.iterdir()] == ["lock"]


def test_a_fetch_that_hangs_is_ended(programs: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(programs, "java", JAVA_17)
    program(programs, "javac")
    program(programs, "mvn", "exec /bin/sleep 60")
    monkeypatch.setattr(provision, "FETCH_S", 0.2)
    with pytest.raises(ConfigError, match=r"could not fetch .* within 0.2 s"):
        fetch_jars(lambda _: None)


def test_what_a_killed_fetch_left_behind_is_cleared_by_the_next(programs: Path, empty_cache: Path) -> None:
    (empty_cache / "draft-old").mkdir(parents=True)
    program(programs, "java", JAVA_17)
    program(programs, "javac")
    program(programs, "mvn")
    said: list[str] = []
    assert fetch_jars(said.append).are_there
    assert not (empty_cache / "draft-old").exists()
    assert fetch_jars(said.append).are_there
    assert len(said) == 1  # the second one found it


def test_two_fetches_at_once_wait_for_each_other_within_a_bound(
    programs: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(programs, "java", JAVA_17)
    program(programs, "javac")
    program(programs, "mvn")
    empty_cache.mkdir()
    monkeypatch.setattr(provision, "FETCH_S", 0.3)
    with (empty_cache / "lock").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="another process has been fetching into"):
            fetch_jars(lambda _: None)
    assert fetch_jars(lambda _: None).are_there


def test_check_names_what_is_missing_and_how_to_get_it(programs: Path, empty_cache: Path) -> None:
    missing = {part.name: part.missing for part in parts() if part.missing}
    assert {"java", "maven", "kafka, mongo stand-in", "prometheus, promtool"} <= missing.keys()
    assert "install Java 17" in missing["java"]
    assert missing["kafka, mongo stand-in"] == "run python -m infra.native fetch"


def test_the_command_line_tells_a_missing_toolchain_in_one_sentence(empty_cache: Path) -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "infra.native", "serve", "--", "true"],
        cwd=ROOT,
        env={"PATH": "", "XDG_CACHE_HOME": str(empty_cache)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("BACKENDS: native needs java on PATH; ")
    assert refused.stderr.count("\n") == 1
