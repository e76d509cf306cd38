"""Settings of a service: read from the environment, checked once, told in one sentence when wrong."""

from typing import Any, Self

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from libs.common.errors import ConfigError


class ServiceSettings(BaseSettings):
    """The knobs every service has. A room's `settings.py` adds its own; every knob says its unit and its bound."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", case_sensitive=False)

    host: str = Field("127.0.0.1", description="address to listen on; loopback unless a container network needs more")
    port: int = Field(..., ge=1, le=65535, description="TCP port to listen on")
    instance: str = Field("1", pattern=r"^[a-z0-9-]{1,40}$", description="name of this copy among its service's copies")
    broker_url: str = Field("memory://", description="event bus: redis://…, unix://… or memory://")
    store_url: str = Field("memory://", description="documents: sqlite:///DIR or memory://")
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


def milliseconds(seconds: float) -> int:
    """Settings speak seconds, decisions speak milliseconds."""
    return round(seconds * 1000)
