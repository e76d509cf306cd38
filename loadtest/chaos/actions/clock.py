"""Wall clocks that jump or run too fast, one process at a time: libfaketime, preloaded by `wired_system`.

Each process reads how wrong its clock is from STATE_DIR/wired/clocks/<name>, once a second. The monotonic clock, which
it waits by, stays right. The Redis of the system has a clock, too; Kafka and MongoDB have the machine's.
"""

import importlib.util
import time
from pathlib import Path

import psutil

from libs.common.errors import ConfigError
from loadtest.chaos.actions import place
from loadtest.chaos.actions.place import Needs

RIGHT = "+0 x1"
"""The rate is always said: what is not said stays as it was."""

REREAD_S = 1.2
BACK_S = 30.0
"""For a process that is being started again when its clock is set."""

PRELOADED = {
    "DONT_FAKE_MONOTONIC": "1",
    # Else a wait on the monotonic clock ends at once, and threads take Python's lock from each other all the time.
    "FAKETIME_FORCE_MONOTONIC_FIX": "0",
    "NO_FAKE_STAT": "1",
    "FAKETIME_CACHE_DURATION": "0",  # whole seconds, and one more: the file is read once a second
}
"""What a process needs besides the library in LD_PRELOAD and its own file in FAKETIME_TIMESTAMP_FILE."""


def needs() -> Needs:
    """The library of the libfaketime wheel, which is there for Linux on x86-64."""
    if library() is None:
        return {"libfaketime": "the libfaketime wheel is not installed, or has no library for this machine"}
    return {}


def library() -> Path | None:
    """Found without importing the package, which would prepare this process for its own use."""
    spec = importlib.util.find_spec("libfaketime")
    if spec is None or spec.origin is None:
        return None
    found = Path(spec.origin).parent / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"
    return found if found.is_file() else None


def folder() -> Path:
    """Where the clocks of a system are."""
    return place.wired_folder() / "clocks"


def jump(service: str, seconds: float) -> None:
    """From now on its clock is so many seconds ahead of the machine's; behind, when below 0. In effect when this
    returns. Undo: `restore`."""
    _set(service, f"{seconds:+.3f} x1")


def drift(service: str, rate: float) -> None:
    """From now on its clock runs `rate` times as fast as the machine's, from the right time on. Undo: `restore`."""
    if rate <= 0:
        raise ConfigError(f"rate: a clock runs at more than 0 times its speed (given: {rate})")
    # The library counts from the start of the process: what that adds up to so far is taken off.
    age_s = time.time() - place.process(service).create_time()
    _set(service, f"{-age_s * (rate - 1):+.3f} x{rate:.6f}")


def restore(service: str) -> None:
    """Its clock is the machine's again."""
    _set(service, RIGHT)


def _set(service: str, clock: str) -> None:
    file = _file(service)
    draft = file.with_suffix(".new")  # renamed whole: nobody reads half a number
    draft.write_text(f"{clock}\n")
    draft.replace(file)
    place.wait_until(lambda: _is_faked(service), BACK_S, f"{service} runs with libfaketime")
    time.sleep(REREAD_S)


def _is_faked(service: str) -> bool:
    try:
        maps = place.process(service).memory_maps()
    except (ConfigError, psutil.Error):
        return False
    return any(Path(each.path).name.startswith("libfaketime") for each in maps)


def _file(service: str) -> Path:
    file = folder() / service
    if not file.is_file():
        raise ConfigError(
            f"{service} has no clock of its own: start the system with loadtest.chaos.actions.wired_system"
        )
    return file
