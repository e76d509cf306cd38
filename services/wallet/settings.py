"""Every knob of the wallet."""

from pydantic import Field

from libs.common.config import ServiceSettings


class WalletSettings(ServiceSettings):
    port: int = Field(8094, ge=1, le=65535, description="TCP port to listen on")
