"""Processes that die, freeze, or are ended politely: through the supervisor, which starts them again."""

import time

from loadtest.chaos.actions import place
from loadtest.chaos.actions.place import Needs

READY_S = 60.0
GONE_S = 10.0
"""For a process to be gone: what is ended politely gets six seconds from the supervisor."""


def needs() -> Needs:
    """Nothing: signals are there everywhere."""
    return {}


def pids() -> dict[str, int | None]:
    """The pid of each process; None for one that is being started again."""
    return {name: row["pid"] for name, row in place.rows().items()}


def kill(service: str) -> dict[str, int | None]:
    """End it with SIGKILL, as a crash would; it is gone when this returns. Undo: `wait_ready`."""
    return _end("kill", service)


def restart(service: str) -> dict[str, int | None]:
    """End it with SIGTERM, as a deployment would; it is gone when this returns. Undo: `wait_ready`."""
    return _end("restart", service)


def pause(service: str) -> None:
    """Freeze it with SIGSTOP: its connections stay open and nobody answers; it stands still when this returns. Undo:
    `resume`."""
    place.act("pause", service)
    place.wait_until(lambda: place.row(service)["state"] == "paused", GONE_S, f"{service} stands still")


def resume(service: str) -> None:
    """Let it go on; one that runs is not disturbed."""
    place.act("resume", service)


def keep_down(service: str, seconds: float) -> dict[str, int]:
    """End it again each time it comes up, for so many seconds: connections are refused, but for moments. Returns how
    often that was. Undo: `wait_ready`; the supervisor's back-off may keep it away for 5 s more."""
    over_s = time.monotonic() + seconds
    count = 0
    while time.monotonic() < over_s:
        if place.row(service)["pid"] is not None:
            _end("kill", service)
            count += 1
        time.sleep(place.POLL_S)
    return {"killed": count}


def wait_ready(service: str, within_s: float = READY_S) -> dict[str, float]:
    """Return once it is ready, with the seconds that took. Raises ConfigError after `within_s`."""

    def is_ready() -> bool:
        return bool(place.row(service)["state"] == "ready")

    return {"seconds": place.wait_until(is_ready, within_s, f"{service} is ready again")}


def _end(verb: str, service: str) -> dict[str, int | None]:
    pid = place.row(service)["pid"]
    place.act(verb, service)
    place.wait_until(lambda: place.row(service)["pid"] != pid, GONE_S, f"{service} is gone")
    return {"pid": pid}
