"""Run the gateway: `python -m services.gateway`."""

from libs.common.web.serving import Listening, main
from services.gateway.app import TURNSTILE, create_admin_app, create_app
from services.gateway.settings import GatewaySettings

PUBLIC_KEEPALIVE_S = 15.0
"""Short, because it also bounds how long a client may take over the head of a request."""


def listening(settings: GatewaySettings) -> list[Listening]:
    """The public port, which owns the parts, and the inner one."""
    public = create_app(settings)
    return [
        Listening(public, settings.port, PUBLIC_KEEPALIVE_S, public[TURNSTILE].refusal),
        Listening(create_admin_app(settings, public), settings.admin_port),
    ]


if __name__ == "__main__":
    main("gateway", GatewaySettings, listening)
