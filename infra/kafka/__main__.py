"""What Kafka has to have before a service can start.

    BROKER_URL=kafka://… python -m infra.kafka topics

Makes the topics of the catalogue (`libs/common/events/topics.py`) and their dead letters, and sets what is not as it
should be. May be repeated at any moment: at every start of a system, and after every change of the catalogue.
"""

import asyncio
import sys
from typing import Annotated

import stamina
import typer

from libs.common.errors import ConfigError, DependencyDown
from libs.common.events.topics import TOPICS
from libs.common.messaging.kafka.provisioning import provide
from libs.common.messaging.kafka.settings import servers_of
from libs.common.system import SystemClock

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Keeps `topics` a word of its own, though it is the only one."""


@app.command()
def topics(
    broker_url: Annotated[str, typer.Option(envvar="BROKER_URL", help="kafka://host:port[,host:port…]")],
    replicas: Annotated[
        int | None,
        typer.Option(envvar="KAFKA_REPLICAS", min=1, max=9, help="of topics that are made; 3, or as many as brokers"),
    ] = None,
    wait_s: Annotated[float, typer.Option(min=0, max=600, help="for a broker that is only starting")] = 30,
) -> None:
    """Make the topics; print what was done with each."""
    for name, done in asyncio.run(_provided(servers_of(broker_url), replicas, wait_s)).items():
        print(f"{name}: {done}")


async def _provided(servers: tuple[str, ...], replicas: int | None, wait_s: float) -> dict[str, str]:
    async for attempt in stamina.retry_context(on=DependencyDown, attempts=None, timeout=wait_s, wait_max=2.0):
        with attempt:
            return await provide(servers, TOPICS.values(), SystemClock(), replicas)
    raise AssertionError("the last attempt returns or raises")


if __name__ == "__main__":
    try:
        app()
    except (ConfigError, DependencyDown) as sentence:
        print(sentence, file=sys.stderr)
        sys.exit(1)
