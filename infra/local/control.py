"""Acting on a running system from a second terminal: one JSON line each way over a unix socket, mode 0600.

→ {"verb": "kill", "service": "wallet"}
← {"ok": true, "acted": [{"name": "wallet", "pid": 1234}]}   or   {"ok": false, "error": "…"}
"""

import asyncio
import contextlib
import json
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.local.life import Life
from infra.local.supervisor import Supervisor
from libs.common.errors import ConfigError

REQUEST_MAX_BYTES = 4096
REQUEST_S = 5.0

_SIGNALS = {"kill": signal.SIGKILL, "pause": signal.SIGSTOP, "resume": signal.SIGCONT}


class Control:
    """The listening end. `addresses` and `rules` are told to whoever asks: tools find the running system by the former,
    and judge it by the settings that it was started with."""

    def __init__(self, supervisor: Supervisor, addresses: Mapping[str, str], rules: Mapping[str, str]) -> None:
        self._supervisor = supervisor
        self._told = {"addresses": dict(addresses), "rules": dict(rules)}
        self._server: asyncio.Server | None = None

    async def listen(self, path: Path) -> None:
        """Raises ConfigError when the socket cannot be made."""
        try:
            self._server = await asyncio.start_unix_server(self._answer, path, limit=REQUEST_MAX_BYTES)
            path.chmod(0o600)  # noqa: ASYNC240 (one system call, once)
        except OSError as why:
            raise ConfigError(f"STATE_DIR: cannot listen on {path}: {why.strerror}") from None

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_S):
                request = json.loads(await reader.readline())
                reply = {"ok": True, **self._act(request)}
                writer.write(json.dumps(reply).encode() + b"\n")
                await writer.drain()
        except (ConfigError, ValueError, TypeError, AttributeError) as why:
            writer.write(json.dumps({"ok": False, "error": str(why)}).encode() + b"\n")
        except OSError:
            return  # the caller hung up, or never spoke
        finally:
            writer.close()

    def _act(self, request: Any) -> dict[str, Any]:
        verb, service = request.get("verb"), request.get("service")
        if verb == "status":
            services = [life.status() for life in self._supervisor.lives.values()]
            return {"services": services, **self._told}
        if verb not in (*_SIGNALS, "restart"):
            raise ConfigError(f"{verb!r} is not a verb; there are status, restart, {', '.join(_SIGNALS)}")
        acted = [acted for life in self._chosen(verb, service) if (acted := self._one(verb, life))]
        if not acted:
            raise ConfigError(f"{service or 'nothing'} is not running at the moment")
        return {"acted": acted}

    def _chosen(self, verb: str, service: str | None) -> list[Life]:
        lives = self._supervisor.lives
        if service is None and verb in ("pause", "resume"):
            return [life for life in lives.values() if life.child.layer > 0]
        if service not in lives:
            raise ConfigError(f"SERVICE: {service!r} is not among {', '.join(lives)}")
        return [lives[service]]

    def _one(self, verb: str, life: Life) -> dict[str, Any] | None:
        pid = life.pid
        done = life.send(_SIGNALS[verb]) if verb in _SIGNALS else self._supervisor.restart(life) > 0
        return {"name": life.child.name, "pid": pid} if done else None


def ask(path: Path, verb: str, service: str | None = None) -> dict[str, Any]:
    """The calling end. Raises ConfigError when no system runs there, or with the reason it refuses."""
    request = {"verb": verb} if service is None else {"verb": verb, "service": service}
    try:
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as connection:
            connection.settimeout(REQUEST_S)
            connection.connect(str(path))
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as answer:
                reply: dict[str, Any] = json.loads(answer.readline())
    except TimeoutError:
        raise ConfigError(f"STATE_DIR: the system at {path} did not answer within {REQUEST_S:g} s") from None
    except (OSError, ValueError):
        raise ConfigError(f"STATE_DIR: no system is running at {path}; start one with make run") from None
    if not reply["ok"]:
        raise ConfigError(reply["error"])
    return reply
