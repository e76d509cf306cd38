"""A process of an image that is laid out in a folder: started, asked, looked at and stopped as an engine would."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from infra.docker.image import LaidOut
from libs.common.errors import ConfigError

UNTIL_S = 60.0
COMMAND_S = 30.0
PAUSE_S = 0.1
LOG_LINES = 30


class ImageProcess:
    """Runs from the moment it is made. Methods raise ConfigError with the end of what the process printed."""

    def __init__(self, image: LaidOut, environment: Mapping[str, str], log: Path) -> None:
        self._image, self._name = image, image.folder.name
        self._environment = image.environment(**environment)
        self._log = log
        with log.open("w") as output:
            self._process = subprocess.Popen(
                image.stage.command,
                cwd=image.workdir,
                env=self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return "\n".join(self._log.read_text().splitlines()[-LOG_LINES:])

    def wait_until(self, what: str, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + UNTIL_S
        while not holds():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ConfigError(f"{self._name}: not {what} within {UNTIL_S:g} s, or ended before:\n{self.output}")
            time.sleep(PAUSE_S)

    def is_healthy(self) -> bool:
        """What the image's own health check says."""
        return _ended_well(self._image.stage.health, self._image, self._environment) is None

    def stop(self, within_s: float) -> float:
        """Ask it to end, by the image's stop signal, and expect exit status 0. Returns how many seconds that took."""
        begun = time.monotonic()
        self._process.send_signal(signal.Signals[self._image.stage.stop_signal])
        try:
            status = self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise ConfigError(f"{self._name}: runs on {within_s:g} s after the stop signal:\n{self.output}") from None
        if status:
            raise ConfigError(f"{self._name}: exit status {status} after the stop signal:\n{self.output}")
        return time.monotonic() - begun

    def end(self) -> None:
        """Leave nothing of it behind, whatever state it is in."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@contextmanager
def running(image: LaidOut, environment: Mapping[str, str]) -> Iterator[ImageProcess]:
    process = ImageProcess(image, environment, image.folder.with_suffix(".log"))
    try:
        yield process
    finally:
        process.end()


def run_in(image: LaidOut, command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run another command in the image. Raises ConfigError unless it ends well within `COMMAND_S`."""
    failure = _ended_well(command, image, image.environment(**environment))
    if failure is not None:
        told = " ".join(word for word in command if "\n" not in word)
        raise ConfigError(f"{image.folder.name}: {told}: {failure}")


def _ended_well(command: Sequence[str], image: LaidOut, environment: Mapping[str, str]) -> str | None:
    try:
        done = subprocess.run(
            command, cwd=image.workdir, env=environment, capture_output=True, text=True, timeout=COMMAND_S, check=False
        )
    except subprocess.TimeoutExpired as why:
        return f"not ended after {COMMAND_S:g} s\n{(why.output or b'').decode(errors='replace')}"
    return None if done.returncode == 0 else f"exit status {done.returncode}\n{done.stdout}{done.stderr}"
