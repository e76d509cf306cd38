"""Settings of a service: read from the environment, checked once, told in one sentence when wrong.

What must not stand in the environment may come from a file instead: `SECRETS_DIR` names a folder (a container engine's
`/run/secrets`, a mounted Kubernetes secret) whose files are named after settings, `ticket_keys` for `TICKET_KEYS`. A
setting that is in the environment wins over its file.
"""

from pathlib import Path
from typing import Any, Self

from pydantic import DirectoryPath, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from libs.common.errors import ConfigError


class ServiceSettings(BaseSettings):
    """The knobs every service has. A room's `settings.py` adds its own; every knob says its unit and its bound."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", case_sensitive=False)

    host: str = Field("127.0.0.1", description="address to listen on; loopback unless a container network needs more")
    port: int = Field(..., ge=1, le=65535, description="TCP port to listen on")
    listen_socket: str = Field(
        "", max_length=100, description="path of a UNIX socket to listen on as well; empty: none"
    )
    instance: str = Field("1", pattern=r"^[a-z0-9-]{1,40}$", description="name of this copy among its service's copies")
    secrets_dir: DirectoryPath | None = Field(None, description="folder of files named after the settings they hold")
    broker_url: str = Field("memory://", description="event bus: kafka://…, redis://…, unix://… or memory://")
    store_url: str = Field("memory://", description="documents: mongodb://HOST/PREFIX, sqlite:///DIR or memory://")
    mongo_driver: str = Field("motor", pattern="^(motor|pymongo)$", description="what speaks to a mongodb:// store")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$")
    log_format: str = Field("json", pattern="^(json|console)$")
    request_deadline_s: float = Field(5.0, gt=0, le=60, description="longest time a request may take, in seconds")
    clock_skew_s: float = Field(
        0.0, ge=0, le=60, description="largest error between the clocks of two processes, seconds"
    )
    drain_s: float = Field(1.0, ge=0, le=30, description="seconds a stopping service says not-ready before it closes")
    shutdown_s: float = Field(7.0, gt=0, le=60, description="seconds running requests get to finish at a stop")

    @property
    def clock_skew_ms(self) -> int:
        return round(self.clock_skew_s * 1000)

    @classmethod
    def from_environment(cls, **given: Any) -> Self:
        """Read and check all knobs. Raises ConfigError with one sentence that names the first wrong setting."""
        try:
            return cls(**given)
        except ValidationError as wrong:
            first = wrong.errors()[0]
            name = "_".join(str(part) for part in first["loc"]).upper()
            raise ConfigError(f"{name}: {first['msg']} (given: {first.get('input')!r})") from None
        except SettingsError as wrong:  # a secret's file is mounted with the rights it has on the host
            raise ConfigError(f"{wrong}: {wrong.__cause__}") from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Where settings come from; the first to know one decides."""
        folder = env_settings().get("secrets_dir")
        if folder and Path(folder).is_dir():
            file_secret_settings = SecretsSettingsSource(settings_cls, folder)
        return init_settings, env_settings, dotenv_settings, file_secret_settings


def milliseconds(seconds: float) -> int:
    """Settings speak seconds, decisions speak milliseconds."""
    return round(seconds * 1000)
