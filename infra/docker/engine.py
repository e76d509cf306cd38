"""The container engine of this machine, where there is one, and the system of docker-compose.yml on it."""

import os
import secrets
import subprocess
from collections.abc import Callable
from pathlib import Path

from libs.common.errors import ConfigError

ROOT = Path(__file__).parents[2]
SECRETS = ROOT / ".secrets"
ASK_S = 20.0
HEALTHY_S = 600
NEEDED = "needs a container engine: start one, until `docker info` and `docker compose version` answer"


def is_there() -> bool:
    """An engine that answers, not just its command line."""
    return _succeeds("docker", "info")


def up() -> None:
    """Build the images, start everything and wait until it is healthy. Raises ConfigError when that does not come."""
    _need_compose("make up")
    prepare_secrets(SECRETS)
    _compose("up", "--detach", "--build", "--wait", "--wait-timeout", str(HEALTHY_S))


def down() -> None:
    """Stop everything and keep its volumes."""
    _need_compose("make down")
    _compose("--profile", "tools", "down")


def prepare_secrets(folder: Path) -> None:
    """Make the secrets that are missing, at random, and leave those that are there.

    They are mounted with their rights on this machine, where services run as another user than their owner: the folder
    is closed to others, its files are not.
    """
    made: dict[str, Callable[[], str]] = {
        "ticket_keys": lambda: f"1:{secrets.token_hex(32)}",
        "grafana_admin_password": lambda: secrets.token_urlsafe(18),
    }
    folder.mkdir(mode=0o700, exist_ok=True)
    for name, make in made.items():
        path = folder / name
        if not path.exists():
            draft = folder / f"{name}.new"
            draft.write_text(make() + "\n")
            draft.chmod(0o644)
            draft.replace(path)


def _need_compose(what: str) -> None:
    if not (is_there() and _succeeds("docker", "compose", "version")):
        raise ConfigError(f"{what} {NEEDED}.")


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=ASK_S, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _compose(*verb: str) -> None:
    status = subprocess.run(["docker", "compose", *verb], cwd=ROOT, env=os.environ, check=False).returncode
    if status:
        raise ConfigError(
            f"docker compose {verb[0]} ended with {status}; docker compose ps --all shows what is not healthy"
        )
