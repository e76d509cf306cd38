"""A process group that does not outlive this process, however it ends.

All children run in one process group of their own, led by a shell of one line that reads from a pipe whose other end
only this process holds. When this process ends, kill -9 included, the kernel closes that end, the shell reads the end
of the file and kills the group, itself and all grandchildren with it. Nothing here is peculiar to Linux.

The shell ignores the polite signals: when this process dies while a child is stopped, the kernel sends SIGHUP to what
is now an orphaned group, and the shell must live long enough to do its one thing.
"""

import asyncio
import contextlib
import os
import signal
import subprocess

RENEW_AGAIN_S = 0.2

_SCRIPT = "trap '' HUP INT TERM; read line; kill -s KILL 0"


class Guardian:
    """Start it first, start every child with `process_group=guardian.group`, and `sweep` last."""

    def __init__(self) -> None:
        self.group = 0
        self._write_end = -1
        self._shell: asyncio.subprocess.Process | None = None
        self._renewal: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises OSError when no shell can be started."""
        read_end, self._write_end = os.pipe()
        self._renewal = asyncio.create_task(self._keep(await self._spawn(read_end), read_end))

    async def _spawn(self, read_end: int) -> asyncio.subprocess.Process:
        try:
            self._shell = await _shell(read_end, self.group)
        except PermissionError:  # nobody is left in the old group, so it cannot be joined
            self.group = 0
            self._shell = await _shell(read_end, self.group)
        self.group = self.group or self._shell.pid
        return self._shell

    async def _keep(self, shell: asyncio.subprocess.Process, read_end: int) -> None:
        # Someone may kill the shell alone: the children live on in its group, and a new one joins them.
        try:
            while True:
                await shell.wait()
                try:
                    shell = await self._spawn(read_end)
                except OSError:  # no process to be had at the moment
                    await asyncio.sleep(RENEW_AGAIN_S)
        finally:
            os.close(read_end)

    async def sweep(self) -> None:
        """Kill whatever is still in the group, grandchildren included, and the guardian with it."""
        if self._renewal is None or self._shell is None:
            return
        self._renewal.cancel()
        await asyncio.wait([self._renewal])
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.group, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            self._shell.kill()
        await self._shell.wait()
        os.close(self._write_end)


async def _shell(read_end: int, group: int) -> asyncio.subprocess.Process:
    quiet = subprocess.DEVNULL
    return await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", _SCRIPT, stdin=read_end, stdout=quiet, stderr=quiet, process_group=group
    )
