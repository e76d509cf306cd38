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


def pids(state_dir: str = "") -> dict[str, int | None]:
    """The pid of each process; None for one that is being started again."""
    return {name: row["pid"] for name, row in place.rows(state_dir).items()}


def kill(service: str, state_dir: str = "") -> dict[str, int | None]:
    """End it with SIGKILL, as a crash would; it is gone when this returns. Undo: `wait_ready`."""
    return _end("kill", service, state_dir)


def restart(service: str, state_dir: str = "") -> dict[str, int | None]:
    """End it with SIGTERM, as a deployment would; it is gone when this returns. Undo: `wait_ready`."""
    return _end("restart", service, state_dir)


def pause(service: str, state_dir: str = "") -> None:
    """Freeze it with SIGSTOP: its connections stay open and nobody answers; it stands still when this returns. Undo:
    `resume`."""
    place.act("pause", service, state_dir)
    place.wait_until(lambda: place.row(service, state_dir)["state"] == "paused", GONE_S, f"{service} stands still")


def resume(service: str, state_dir: str = "") -> None:
    """Let it go on; one that runs is not disturbed."""
    place.act("resume", service, state_dir)


def keep_down(service: str, seconds: float, state_dir: str = "") -> dict[str, int]:
    """End it again each time it comes up, for so many seconds: connections are refused, but for moments. Returns how
    often that was. Undo: `wait_ready`; the supervisor's back-off may keep it away for 5 s more."""
    over_s = time.monotonic() + seconds
    count = 0
    while time.monotonic() < over_s:
        if place.row(service, state_dir)["pid"] is not None:
            _end("kill", service, state_dir)
            count += 1
        time.sleep(place.POLL_S)
    return {"killed": count}


def wait_ready(service: str, within_s: float = READY_S, state_dir: str = "") -> dict[str, float]:
    """Return once it is ready, with the seconds that took. Raises ConfigError after `within_s`."""

    def is_ready() -> bool:
        return bool(place.row(service, state_dir)["state"] == "ready")

    return {"seconds": place.wait_until(is_ready, within_s, f"{service} is ready again")}


def _end(verb: str, service: str, state_dir: str) -> dict[str, int | None]:
    pid = place.row(service, state_dir)["pid"]
    place.act(verb, service, state_dir)
    place.wait_until(lambda: place.row(service, state_dir)["pid"] != pid, GONE_S, f"{service} is gone")
    return {"pid": pid}
