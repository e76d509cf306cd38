"""Starts children, restarts what dies, stops all of them layer by layer; knows no room and no Redis.

Every child is kept by one task (`_keep`) from its first start to the end of the system. Each life of it has a probe
beside it. Nothing here waits without a bound: a child that does not obey SIGTERM within its layer's share of
`STOP_S` is killed, and the guardian's sweep takes whatever it left behind.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from infra.local.child import Child, Step
from infra.local.guardian import Guardian
from infra.local.life import BACKOFF_FIRST_S, Life, backoff_after, exit_text
from libs.common.errors import ConfigError

START_S = 120.0
STOP_S = 8.5
"""Of the ten that are promised: the rest is for the sweep and the interpreter's own end."""

RESTART_S = 6.0
"""How long a child that shall restart gets to stop by itself."""

FALSE_STARTS_MAX = 3
"""So often a child may end by itself before it was ready even once: another one that it needs may not be up yet, and a
service tells that and a wrong setting alike, by one sentence and exit code 1."""

NOT_STARTED = 127
"""What a shell says, too, when there is no such program."""

LAST_WORDS_MAX_BYTES = 65536
PROBE_FIRST_S = 0.1
PROBE_LATER_S = 2.0
PROBE_DEADLINE_S = 1.0


class Supervisor:
    """`say` is given each line a person should read; `log_of` names the file that a child's output goes to."""

    def __init__(
        self,
        children: Sequence[Child],
        guardian: Guardian,
        log_of: Callable[[str], Path],
        say: Callable[[str], None],
    ) -> None:
        self.lives = {child.name: Life(child) for child in children}
        self._guardian = guardian
        self._log_of = log_of
        self._say = say
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._news = asyncio.Event()
        self._failure: str | None = None
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._errands: set[asyncio.Task[None]] = set()

    async def start_base(self) -> None:
        """Start layer 0 and return once it is ready. Raises ConfigError like `wait_ready`."""
        base = [name for name, life in self.lives.items() if life.child.layer == 0]
        self._keep_all(base)
        await self.wait_ready(base)

    def start_others(self) -> None:
        """Start every other layer, all at once."""
        self._keep_all(name for name, life in self.lives.items() if life.child.layer > 0)

    def _keep_all(self, names: Iterable[str]) -> None:
        for name in names:
            self._keepers[name] = asyncio.create_task(self._keep(self.lives[name]), name=f"keep {name}")

    async def take(self, step: Step) -> None:
        """Run a step to its end. Raises ConfigError with its last words when it fails, or takes too long."""
        process, offset = await self._spawn(step)
        try:
            async with asyncio.timeout(step.limit_s):
                code = await process.wait()
        except TimeoutError:
            raise ConfigError(f"{step.name} took more than {step.limit_s:g} s; see {self._log_of(step.name)}") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        if code != 0:
            said = _last_words(self._log_of(step.name), offset, step.name) or exit_text(code)
            raise ConfigError(f"{step.name}: {said} (see {self._log_of(step.name)})")

    async def wait_ready(self, names: Iterable[str]) -> None:
        """Return once each of `names` has been ready, saying its line. Raises ConfigError with one sentence when a
        child has had `FALSE_STARTS_MAX` false starts, or when `START_S` is over."""
        for name in names:
            life = self.lives[name]
            try:
                async with asyncio.timeout(START_S):
                    while not life.was_ready:
                        news = self._news
                        if self._failure is not None:
                            raise ConfigError(self._failure)
                        await news.wait()
            except TimeoutError:
                raise ConfigError(f"{name} was not ready within {START_S:g} s; see {self._log_of(name)}") from None
            self._say(life.line())

    async def stop(self) -> None:
        """End everything, highest layer first, within `STOP_S` seconds; then sweep the group."""
        self._stopping.set()
        deadline = time.monotonic() + STOP_S
        layers = sorted({life.child.layer for life in self.lives.values()}, reverse=True)
        for done, layer in enumerate(layers):
            share = (deadline - time.monotonic()) / (len(layers) - done)
            await self._stop_layer([life for life in self.lives.values() if life.child.layer == layer], share)
        for errand in self._errands:
            errand.cancel()
        await self._guardian.sweep()
        if self._keepers:
            await asyncio.wait(self._keepers.values(), timeout=1)

    def hurry(self) -> None:
        """Stop waiting for anyone's own end: a second Ctrl-C."""
        self._hurry.set()

    async def _stop_layer(self, lives: Sequence[Life], share_s: float) -> None:
        keepers = [keeper for life in lives if (keeper := self._keepers.get(life.child.name))]
        for life in lives:
            life.send(signal.SIGTERM)
            life.send(signal.SIGCONT)  # a stopped process takes its SIGTERM only when it runs again
        if not keepers:
            return
        everyone: asyncio.Future[Any] = asyncio.gather(*keepers, return_exceptions=True)
        hurry: asyncio.Future[Any] = asyncio.create_task(self._hurry.wait())
        await asyncio.wait({everyone, hurry}, timeout=max(share_s, 0.1), return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        for life in lives:
            life.send(signal.SIGKILL)
        # Not even SIGKILL ends a process at once that waits for a broken disk; the sweep still comes.
        await asyncio.wait({everyone}, timeout=0.3)

    async def _keep(self, life: Life) -> None:
        backoff_s = BACKOFF_FIRST_S
        while not self._stopping.is_set():
            code = await self._live(life)
            if self._stopping.is_set():
                break
            alive_s = life.uptime_s()
            if not life.was_ready and code >= 0 and not life.restart_wanted:
                life.false_starts += 1
                if life.false_starts == FALSE_STARTS_MAX:
                    self._failure = (
                        f"{life.child.name}: {self._reason(life, code)} (see {self._log_of(life.child.name)})"
                    )
                    self._tell()
                    break
            wanted, life.restart_wanted = life.restart_wanted, False
            delay_s, backoff_s = (0.0, backoff_s) if wanted else backoff_after(backoff_s, alive_s)
            life.state, life.restarts, life.line_due = "waiting", life.restarts + 1, life.was_ready
            reason = "restarting" if wanted else f"{self._reason(life, code)}; restarting in {delay_s:g} s"
            self._say(f"{life.child.name} pid {life.pid} ended: {reason}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay_s)
        life.state = "stopped"

    async def _live(self, life: Life) -> int:
        """One life, from start to exit code (negative: the signal that ended it)."""
        try:
            process, life.log_offset = await self._spawn(life.child)
        except OSError as why:
            life.began(None)
            life.last_words = f"{life.child.argv[0]} cannot be started: {why.strerror}"
            return NOT_STARTED
        life.began(process)
        if self._stopping.is_set():
            life.send(signal.SIGKILL)
        probe = asyncio.create_task(self._probe(life), name=f"probe {life.child.name}")
        try:
            return await process.wait()
        finally:
            life.ended()
            probe.cancel()

    async def _spawn(self, program: Child | Step) -> tuple[asyncio.subprocess.Process, int]:
        """The process, and where in its log its output begins."""
        with self._log_of(program.name).open("ab") as log:
            offset = log.tell()
            process = await asyncio.create_subprocess_exec(
                *program.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **program.env},
                process_group=self._guardian.group,
            )
        return process, offset

    async def _probe(self, life: Life) -> None:
        while True:
            try:
                async with asyncio.timeout(PROBE_DEADLINE_S):
                    ready = await life.child.ready()
            except (OSError, EOFError):
                ready = False
            if ready and life.line_due:
                life.line_due = False
                self._say(life.line())
            life.state = "ready" if ready else ("unready" if life.state in ("ready", "unready") else "starting")
            if ready and not life.was_ready:
                life.was_ready = True
                self._tell()
            await asyncio.sleep(PROBE_LATER_S if ready else PROBE_FIRST_S)

    def _reason(self, life: Life, code: int) -> str:
        """The exit code; for a false start, what it said last. A service that is up may have said anything last."""
        if life.was_ready or code < 0:
            return exit_text(code)
        if code == NOT_STARTED and life.last_words:
            return life.last_words
        return _last_words(self._log_of(life.child.name), life.log_offset, life.child.name) or exit_text(code)

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def restart(self, life: Life) -> int:
        """SIGTERM now, SIGKILL after `RESTART_S`, and a new life at once. Returns the pid that ends; 0 for none."""
        if not life.running:
            return 0
        pid = life.pid
        life.restart_wanted = True
        life.send(signal.SIGTERM)
        life.send(signal.SIGCONT)

        async def insist() -> None:
            await asyncio.sleep(RESTART_S)
            if life.pid == pid:
                life.send(signal.SIGKILL)

        errand = asyncio.create_task(insist(), name=f"restart {life.child.name}")
        self._errands.add(errand)
        errand.add_done_callback(self._errands.discard)
        return pid


def _last_words(log: Path, offset: int, name: str) -> str:
    """The last line under the program's own name, which a copy shares, without that name; else the very last line."""
    lines: list[str] = []
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(offset, log.stat().st_size - LAST_WORDS_MAX_BYTES))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    head = f"{name.partition('-')[0]}: "
    own = [line.removeprefix(head) for line in lines if line.startswith(head)]
    return (own or lines or [""])[-1]
