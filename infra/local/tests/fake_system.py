"""`make run` with a fake in place of every room: the real supervisor, the real Redis, the real ports and files.

python -m infra.local.tests.fake_system [run --parent PID]
"""

import asyncio
import sys
from pathlib import Path

from infra.local.settings import LocalSettings
from infra.local.system import run_system
from libs.common.errors import ConfigError


def fake_command(room: str) -> tuple[str, ...]:
    return (sys.executable, str(Path(__file__).with_name("fake_service.py")), room)


if __name__ == "__main__":
    parent = int(sys.argv[-1]) if "--parent" in sys.argv else None
    try:
        asyncio.run(run_system(LocalSettings.from_environment(), parent=parent, command=fake_command))
    except ConfigError as sentence:
        print(sentence, file=sys.stderr)
        sys.exit(1)
