"""Settings come from the environment, secrets from files too, and a wrong one is named in one sentence."""

from pathlib import Path

import pytest
from pydantic import Field

from libs.common.config import ServiceSettings
from libs.common.errors import ConfigError


class Settings(ServiceSettings):
    port: int = Field(8000, ge=1, le=65535, description="TCP port to listen on")
    ticket_keys: str = Field("", description="a secret")


@pytest.fixture
def secrets_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SECRETS_DIR", str(tmp_path))
    return tmp_path


def test_a_file_in_the_folder_of_secrets_gives_the_setting_it_is_named_after(secrets_dir: Path) -> None:
    (secrets_dir / "ticket_keys").write_text("1:abcd\n")
    assert Settings.from_environment().ticket_keys == "1:abcd"


def test_the_environment_wins_over_a_file(secrets_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (secrets_dir / "ticket_keys").write_text("1:abcd\n")
    monkeypatch.setenv("TICKET_KEYS", "2:dcba")
    assert Settings.from_environment().ticket_keys == "2:dcba"


def test_a_folder_without_the_file_leaves_the_default(secrets_dir: Path) -> None:
    assert Settings.from_environment().ticket_keys == ""


def test_a_wrong_secret_is_named_like_any_setting(secrets_dir: Path) -> None:
    (secrets_dir / "port").write_text("none")
    with pytest.raises(ConfigError, match=r"^PORT: .*integer"):
        Settings.from_environment()


def test_a_folder_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SECRETS_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"^SECRETS_DIR: "):
        Settings.from_environment()


def test_a_file_that_cannot_be_read_is_named_by_its_setting(secrets_dir: Path) -> None:
    (secrets_dir / "ticket_keys").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"ticket_keys.*can't decode"):
        Settings.from_environment()
