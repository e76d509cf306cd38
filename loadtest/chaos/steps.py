"""Steps that take more than one action, on the processes of a supervised system; called like the actions themselves."""

import random
import time
from pathlib import Path
from shutil import rmtree
from urllib.parse import urlsplit

import apsw
from chaoslib import substitute
from chaoslib.activity import run_activity
from chaoslib.exceptions import ActivityFailed

from infra.local.settings import ROOMS
from libs.common.errors import ConfigError
from loadtest.chaos.actions import place, processes, redis_data
from loadtest.chaos.files import FOLDER, read

READY_S = 30.0
LOCK_WAIT_MS = 5_000


def crash_often(services: list[str], times: int, seed: int, pause_s: tuple[float, float]) -> dict[str, int]:
    """Kill one of the services so many times, each at a moment of the seed within what it is at work on just then.

    A service is ready again before the next one is killed: what is looked for is the point at which it dies.
    """
    chance = random.Random(seed)  # noqa: S311 (repeatable, which is the point)
    for _ in range(times):
        service = chance.choice(services)
        time.sleep(chance.uniform(*pause_s))
        processes.kill(service)
        processes.wait_ready(service, within_s=READY_S)
    return {"killed": times}


def roll() -> dict[str, int]:
    """Replace every process of every service politely, one after the other, as a deployment does."""
    names = [name for name in place.rows() if name.partition("-")[0] in ROOMS]
    for name in names:
        processes.restart(name)
        processes.wait_ready(name, within_s=READY_S)
    return {"restarted": len(names)}


def go_back(seconds: float) -> dict[str, float]:
    """Redis as it was so many seconds ago: a snapshot, that time, and the snapshot in its place."""
    path = redis_data.snapshot()["path"]
    try:
        time.sleep(seconds)
        return redis_data.roll_back(path)
    finally:
        rmtree(path, ignore_errors=True)


def lock_store(service: str, seconds: float) -> None:
    """Hold the write lock of a service's SQLite file, as somebody's backup or console would."""
    url = place.address("STORE_URL")
    if not url.startswith("sqlite:"):
        raise ConfigError(f"STORE_URL: only an SQLite file can be locked ({url})")
    path = Path(urlsplit(url).path[1:]) / f"{service}.db"
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.set_busy_timeout(LOCK_WAIT_MS)
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(seconds)
        connection.execute("ROLLBACK")
    finally:
        connection.close()


def play(experiment: str, seed: int, lag_s: float = 0.0) -> list[str]:
    """The method of another experiment of `experiments/` as one step, to its end; the names of what was done.

    Without its rollbacks: they would end what another one does at the same time, or fail for it. Raises ConfigError
    with what could not be done.
    """
    found = read(FOLDER / f"{experiment}.yaml")
    values = found.draw(seed)
    time.sleep(lag_s)
    done, failed = [], []
    for activity in found.content["method"]:
        try:
            run_activity(activity, values, {})
            done.append(activity["name"])
        except ActivityFailed as why:
            failed.append(f"{activity['name']}: {why}")
        time.sleep(substitute(activity.get("pauses", {}), values, {}).get("after", 0))
    if failed:
        raise ConfigError("; ".join(failed))
    return done
