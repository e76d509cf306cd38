"""A look at the addresses in the settings before anything is started: five services would each say the same, thrice."""

import asyncio
from urllib.parse import unquote, urlsplit

from libs.common.errors import ConfigError

ANSWER_S = 1.0

# The adapters' own schemes, repeated because importing the adapters takes half a second; a test compares them.
SCHEMES = {
    "REDIS_URL": ("redis", "rediss", "unix"),
    "BROKER_URL": ("redis", "rediss", "unix", "kafka"),
    "STORE_URL": ("mongodb", "sqlite", "memory"),
}

_PORTS = {"redis": 6379, "rediss": 6379, "kafka": 9092, "mongodb": 27017}


async def check_url(setting: str, url: str) -> None:
    """Raises ConfigError when the setting takes no such scheme, or when nothing listens at any of the URL's hosts."""
    scheme, known = urlsplit(url).scheme, SCHEMES[setting]
    if scheme not in known:
        listed = ", ".join(f"{name}:" for name in known)
        raise ConfigError(f"{setting}: a URL begins with one of {listed} (given: {scheme or 'none of them'})")
    if scheme != "unix" and scheme not in _PORTS:
        return
    # An address may hold a password: only the hosts are told.
    where = unquote(urlsplit(url).path) if scheme == "unix" else urlsplit(url).netloc.rpartition("@")[2]
    for host in [where] if scheme == "unix" else where.split(","):
        if await _answers(scheme, host):
            return
    raise ConfigError(
        f"{setting}: nothing answers at {where or 'an empty address'}; start it, or leave {setting} unset"
    )


async def _answers(scheme: str, host: str) -> bool:
    try:
        async with asyncio.timeout(ANSWER_S):
            if scheme == "unix":
                _, writer = await asyncio.open_unix_connection(host)
            else:
                parts = urlsplit(f"//{host}")
                _, writer = await asyncio.open_connection(parts.hostname or "", parts.port or _PORTS[scheme])
    except (OSError, ValueError):
        return False
    writer.close()
    return True
