"""What `docker-compose.yml` says: the one place of versions, ports and settings, read by the checks."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
COMPOSE_FILE = ROOT / "docker-compose.yml"

_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


class Compose:
    """The file with its merges carried out; variables have the values of `environment`, or their defaults."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self.document: dict[str, Any] = yaml.safe_load(_filled(COMPOSE_FILE.read_text(), environment or {}))
        self.services: dict[str, dict[str, Any]] = self.document["services"]

    def builds(self) -> list[tuple[str, dict[str, str]]]:
        """Target and arguments of each image that is built here, each image once."""
        builds = [service["build"] for service in self.services.values() if "build" in service]
        return [
            (build["target"], build["args"]) for build in {build["args"]["SERVICE"]: build for build in builds}.values()
        ]

    def image(self, service: str) -> str:
        """The pinned image of a part that is not built here."""
        return str(self.services[service]["image"])

    def environment(self, service: str) -> dict[str, str]:
        return {name: str(value) for name, value in self.services[service].get("environment", {}).items()}

    def stop_grace_s(self, service: str) -> float:
        """How long an engine waits between the stop signal and the end by force."""
        return float(str(self.services[service]["stop_grace_period"]).removesuffix("s"))


def _filled(text: str, environment: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda found: environment.get(found[1]) or found[2] or "", text)
