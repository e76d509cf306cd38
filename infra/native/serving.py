"""The broker and the stand-in for the time of one command, which is told where they are.

TEST_KAFKA_URL   kafka://127.0.0.1:PORT
TEST_MONGO_URL   mongodb://127.0.0.1:PORT
"""

import asyncio
import os
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path

from infra.local.guardian import Guardian
from infra.local.supervisor import Supervisor
from infra.local.system import free_ports
from infra.native.kafka_server import KafkaPorts, kafka_child, kafka_url
from infra.native.mongo_server import mongo_child, mongo_url
from infra.native.provision import Jars, Say
from libs.common.errors import ConfigError


async def serve(jars: Jars, command: Sequence[str], say: Say) -> int:
    """Run `command` beside both servers; its exit code. SIGTERM ends the command, and then the servers.

    Raises ConfigError when a server or the command cannot be started.
    """
    broker, controller, mongo = free_ports(3)
    with tempfile.TemporaryDirectory(prefix="stagedoor-native-") as folder:
        data = Path(folder)
        children = [
            kafka_child(jars, data / "kafka", KafkaPorts(broker, controller)),
            mongo_child(jars, data / "mongo", mongo),
        ]
        guardian = Guardian()
        supervisor = Supervisor(children, guardian, lambda name: data / f"{name}.log", say)
        try:
            await guardian.start()
            await supervisor.start_base()
            told = {"TEST_KAFKA_URL": kafka_url(broker), "TEST_MONGO_URL": mongo_url(mongo)}
            return await _run(command, {**os.environ, **told})
        finally:
            await supervisor.stop()


async def _run(command: Sequence[str], environment: dict[str, str]) -> int:
    try:
        process = await asyncio.create_subprocess_exec(*command, env=environment)
    except OSError as why:
        raise ConfigError(f"{command[0]}: {why.strerror}") from None
    # Ctrl-C reaches the command by itself: it is in the terminal's process group, too.
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, lambda: None)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, process.terminate)
    return await process.wait()
