"""STATE_DIR: what is in it is one system's own, wherever it is and whatever an earlier one left there."""

import os
from pathlib import Path

import pytest

from infra.local.settings import state_dir
from infra.local.state import LOG_MAX_BYTES, SOCKET_PATH_MAX_BYTES, StateDir
from infra.local.tests.harness import command_line
from libs.common.errors import ConfigError


def _prepared(path: Path) -> StateDir:
    state = StateDir(path)
    with state.lock():
        state.prepare()
        state.choose_sockets()
    return state


def test_a_start_that_is_refused_leaves_the_logs_of_the_running_system_alone(tmp_path: Path) -> None:
    state = _prepared(tmp_path / "run")
    with state.log("queue").open("wb") as being_written, state.lock():
        being_written.truncate(LOG_MAX_BYTES + 1)
        assert "already running" in command_line(state.path, "run").stderr
        assert os.path.samestat(state.log("queue").stat(), os.fstat(being_written.fileno()))


def test_the_socket_of_every_copy_fits_wherever_the_sockets_are(tmp_path: Path) -> None:
    longest = len("/reservation-9.sock")
    for length in (SOCKET_PATH_MAX_BYTES - longest, SOCKET_PATH_MAX_BYTES - longest + 1):
        path = tmp_path / ("x" * (length - len(os.fsencode(tmp_path)) - 1))
        state = _prepared(path)
        assert len(os.fsencode(state.sockets / "reservation-9.sock")) <= SOCKET_PATH_MAX_BYTES
        state.close_sockets()


@pytest.mark.parametrize("deep", [False, True])
def test_sockets_of_services_that_were_killed_are_cleared_with_their_folder(tmp_path: Path, deep: bool) -> None:
    state = _prepared(tmp_path / ("deep" * 25 if deep else "run"))
    elsewhere = state.sockets
    (elsewhere / "wallet-2.sock").touch()
    if deep:
        state.close_sockets()
        assert not elsewhere.exists()
    assert state.delete() == []
    assert not state.path.exists()


def test_an_empty_record_of_the_sockets_is_none(tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 25)
    deep.mkdir()
    (deep / "sockets").touch()
    state = _prepared(deep)
    assert state.sockets.is_absolute()
    assert state.sockets != deep
    state.close_sockets()


def test_a_state_folder_that_is_a_link_is_emptied_and_stays(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    assert _prepared(tmp_path / "run").delete() == []
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("letter", [",", "?", "#", "\n"])
def test_a_folder_that_no_url_can_name_is_refused(letter: str) -> None:
    with pytest.raises(ConfigError, match=r"^STATE_DIR: .* is part of URLs"):
        state_dir({"STATE_DIR": f"run{letter}1"})
