"""`make image-check`: every image of docker-compose.yml, built and run without a container engine.

Each image is laid out in a temporary folder (`image.py`); its processes see that folder's code, their own packages and
the image's own environment, and nothing else of this project. Then, for each service: its app can be put together with
the settings that compose gives it, so the adapters for Kafka and MongoDB are in the image. All five come up beside each
other on memory adapters, and the image's own health check finds each of them ready, and finds nobody once it has
stopped. Each takes the container's name as its own, writes nothing into its file system, and answers SIGTERM with exit
0 in the time that compose allows. The tools' command lines start.

What this cannot see: the base image and its libraries, and an engine's limits, rights and network.
"""

import http.client
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from infra.docker.compose import Compose
from infra.docker.image import DOCKERFILE, LaidOut, lay_out
from infra.docker.process import run_in, running
from infra.docker.recipe import Recipe
from infra.local.settings import ROOMS
from infra.local.system import free_ports
from libs.common.errors import ConfigError

ASK_S = 1.0
TOOLS = (
    "infra.kafka",
    "infra.docker.load_venue",
    "infra.local.operating",
    "libs.common.messaging.dlq",
    "libs.common.messaging.retell",
)

PUT_TOGETHER = """
import importlib, sys
room = sys.argv[1]
settings = getattr(importlib.import_module(f"services.{room}.settings"), f"{room.title()}Settings")
importlib.import_module(f"services.{room}.app").create_app(settings.from_environment())
"""


def check_images() -> None:
    """Check all images and say what was seen. Raises ConfigError at the first that fails, with what it printed."""
    compose = Compose()
    with tempfile.TemporaryDirectory(prefix="stagedoor-images-") as name:
        folder = Path(name)
        secrets = folder / "secrets"
        secrets.mkdir()
        (secrets / "ticket_keys").write_text("1:" + "ab" * 32)
        images = _lay_out_all(compose, folder)
        for room in ROOMS:
            given = {**compose.environment(room), "SECRETS_DIR": str(secrets)}
            run_in(images[room], ["python", "-c", PUT_TOGETHER, room], given)
        print("services: can be put together with the settings of docker-compose.yml")
        _run_services({room: images[room] for room in ROOMS}, secrets, compose)
        for tool in TOOLS:
            run_in(images["tools"], [*images["tools"].stage.command, tool, "--help"], {})
        print(f"tools: {', '.join(TOOLS)} start")


def _lay_out_all(compose: Compose, folder: Path) -> dict[str, LaidOut]:
    recipe, images = Recipe.read(DOCKERFILE), {}
    for target, arguments in compose.builds():
        begun, name = time.monotonic(), arguments["SERVICE"]
        images[name] = lay_out(recipe, target, arguments, folder / name)
        print(f"{name}: laid out in {time.monotonic() - begun:.1f} s, {len(images[name].files())} files of our own")
    return images


def _run_services(images: Mapping[str, LaidOut], secrets: Path, compose: Compose) -> None:
    names = [*images, "admin"]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    urls = {f"{room.upper()}_URL": f"http://127.0.0.1:{ports[room]}" for room in images}
    shared = {"HOST": "127.0.0.1", "ADMIN_PORT": str(ports["admin"]), "SECRETS_DIR": str(secrets), **urls}
    before = {room: image.files() for room, image in images.items()}
    with ExitStack() as stack:
        processes = {
            room: stack.enter_context(running(image, {**shared, "PORT": str(ports[room])}))
            for room, image in images.items()
        }
        for room, process in processes.items():
            process.wait_until("alive", partial(_is_alive, ports[room]))
        for process in processes.values():
            process.wait_until("ready by its own health check", process.is_healthy)
        for room, process in processes.items():
            took_s = process.stop(compose.stop_grace_s(room))
            if process.is_healthy():
                raise ConfigError(f"{room}: its health check is content although the service has stopped")
            if f'"instance":"{images[room].environment()["HOSTNAME"]}"' not in process.output:
                raise ConfigError(f"{room}: does not take the container's name as its INSTANCE\n{process.output}")
            if written := images[room].files() - before[room]:
                raise ConfigError(f"{room}: writes into its file system, which is read-only: {sorted(written)}")
            print(f"{room}: alive, ready, ended with 0 in {took_s:.1f} s")


def _is_alive(port: int) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ASK_S)
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
