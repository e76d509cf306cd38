"""One connection through the proxy: two directions, each read ahead into a bounded buffer and passed on by one task.

    client ──read──▶ buffer ──stages──▶ server        upstream
    client ◀──stages── buffer ◀──read── server        downstream

Reading ahead is what lets a slow wire be slow for many bytes at a time. A direction that has said all passes the end
on, and the other may go on for `LINGER_S`. What a stage does to the connection, it does to both directions.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random

from loadtest.chaos.proxy.addresses import Ends, will_reset
from loadtest.chaos.proxy.stages import KINDS, Chunk, Stage
from loadtest.chaos.proxy.toxics import DOWNSTREAM, UPSTREAM, Toxic

CHUNK_BYTES_MAX = 8 * 1024
BUFFER_COUNT_MAX = 512
"""Chunks that a direction reads ahead: 4 MiB at most."""

WRITE_BYTES_MAX = 64 * 1024
LINGER_S = 10.0
CLOSE_S = 1.0

Chance = Callable[[Toxic], Random]
"""The chance of one toxic on one connection."""


class Link:
    """`run` passes bytes on until both sides have ended, a stage ends it, or `close` or `reset` is called."""

    def __init__(self, client: Ends, server: Ends, chance: Chance) -> None:
        self.asked = False
        self._chance = chance
        self._over = asyncio.Event()
        self._writers = (client[1], server[1])
        self._directions = {
            UPSTREAM: _Direction(client[0], server[1], self._over, self._note_asked),
            DOWNSTREAM: _Direction(server[0], client[1], self._over, None),
        }
        for writer in self._writers:
            writer.transport.set_write_buffer_limits(high=WRITE_BYTES_MAX)

    def _note_asked(self) -> None:
        self.asked = True

    def close(self) -> None:
        """End both sides as a program would that is done."""
        self._over.set()

    def reset(self) -> None:
        """End both sides as a machine would that knows nothing of them."""
        for writer in self._writers:
            will_reset(writer)
        self._over.set()

    def put(self, toxic: Toxic) -> None:
        """Begin with a toxic, if it is drawn for this connection; one of the same name ends, in its place."""
        chance = self._chance(toxic)
        stages = self._directions[toxic.stream].stages
        known = stages.pop(toxic.name, None)
        if toxic.type == "cut_reply":  # is drawn for each reply
            is_drawn = True
        else:
            is_drawn = chance.random() < toxic.toxicity
            toxic.touched += is_drawn
        if is_drawn:
            stage = stages[toxic.name] = KINDS[toxic.type](toxic, self, chance)
            stage.begin()
        if known is not None:
            known.end()

    def remove(self, toxic: Toxic) -> None:
        stage = self._directions[toxic.stream].stages.pop(toxic.name, None)
        if stage is not None:
            stage.end()

    async def run(self) -> None:
        pumps = [asyncio.create_task(direction.run()) for direction in self._directions.values()]
        over = asyncio.create_task(self._over.wait())
        try:
            await asyncio.wait({over, *pumps}, return_when=asyncio.FIRST_COMPLETED)
            if any(pump.done() and not pump.result() for pump in pumps):
                self.reset()
            with suppress(TimeoutError):
                async with asyncio.timeout(LINGER_S):
                    while not over.done() and not all(pump.done() for pump in pumps):
                        left = {over, *(pump for pump in pumps if not pump.done())}
                        await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in self._directions.values():
                for stage in [*direction.stages.values()]:
                    stage.end()
            for task in (over, *pumps):
                task.cancel()
            await asyncio.gather(over, *pumps, return_exceptions=True)
            await self._hang_up()

    async def _hang_up(self) -> None:
        """Close both ends for a bounded time: what a peer does not take by then, it does not get."""
        for writer in self._writers:
            writer.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()


class _Direction:
    """`stages` in the order in which bytes meet them; `on_pass` hears of everything that was passed on.

    Once it is `over` nothing is: bytes behind those that a stage kept would be a stream with a hole in it, which no
    network makes.
    """

    def __init__(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        over: asyncio.Event,
        on_pass: Callable[[], None] | None,
    ) -> None:
        self.stages: dict[str, Stage] = {}
        self._source, self._target, self._over, self._on_pass = source, target, over, on_pass
        self._read: asyncio.Queue[Chunk | bool] = asyncio.Queue(BUFFER_COUNT_MAX)

    async def run(self) -> bool:
        """Pass everything on, and then the end; False when that was a reset, on either side."""
        reading = asyncio.create_task(self._read_ahead())
        try:
            while not isinstance(chunk := await self._read.get(), bool):
                await self._through(tuple(self.stages.values()), chunk)
            for stage in tuple(self.stages.values()):
                await stage.finish()
            if chunk and self._target.can_write_eof():
                self._target.write_eof()
        except OSError:
            return False
        finally:
            reading.cancel()
            await asyncio.wait([reading])
        return chunk

    async def _read_ahead(self) -> None:
        now_s = asyncio.get_running_loop().time
        try:
            while data := await self._source.read(CHUNK_BYTES_MAX):
                await self._read.put(Chunk(data, now_s()))
        except OSError:
            await self._read.put(False)
        else:
            await self._read.put(True)

    async def _through(self, stages: Sequence[Stage], chunk: Chunk) -> None:
        if not stages:
            if self._over.is_set():
                return
            self._target.write(chunk.data)
            if self._on_pass is not None:
                self._on_pass()
            await self._target.drain()
            return
        first, *rest = stages

        async def forward(part: Chunk) -> None:
            await self._through(rest, part)

        await (forward(chunk) if first.ended.is_set() else first.carry(chunk, forward))
