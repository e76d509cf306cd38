"""What each toxic does to the bytes of one direction of one connection.

A stage is given chunks and passes them on: later, in pieces, or not at all. It may end the whole connection. A stage
that is ended (its toxic was removed or changed) lets go of whatever it holds back at once.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Protocol

from loadtest.chaos.proxy.toxics import Toxic

BITE_S = 0.1
"""A narrow wire passes on what it carries in so long, so that a change of its rate is felt soon."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """`at_s`: when these bytes would have gone on if nothing were wrong with the wire (the loop's clock)."""

    data: bytes
    at_s: float


Forward = Callable[[Chunk], Awaitable[None]]


class Wire(Protocol):
    """What a stage may do to the connection it is part of."""

    asked: bool
    """Something went to the server since the last reply began."""

    def close(self) -> None: ...

    def reset(self) -> None: ...


class Stage:
    """Passes everything on; each kind below changes one thing about that. `chance` is this stage's own."""

    def __init__(self, toxic: Toxic, wire: Wire, chance: Random) -> None:
        self.toxic, self.wire, self.chance = toxic, wire, chance
        self.ended = asyncio.Event()

    def begin(self) -> None:
        """The stage is in place."""

    async def carry(self, chunk: Chunk, forward: Forward) -> None:
        """Pass on, or not."""
        await forward(chunk)

    async def finish(self) -> None:
        """The sender has no more; returns when the receiver may learn of it."""

    def end(self) -> None:
        """The toxic is gone."""
        self.ended.set()

    async def pause(self, seconds: float) -> None:
        """Wait, but not beyond the end of the stage."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self.ended.wait()
        except TimeoutError:
            return


class Latency(Stage):
    """Later, but no fewer: chunks that are on their way at the same time are late together."""

    async def carry(self, chunk: Chunk, forward: Forward) -> None:
        latency, jitter = self.toxic.attributes["latency"], self.toxic.attributes["jitter"]
        due_s = chunk.at_s + max(0.0, latency + self.chance.uniform(-jitter, jitter)) / 1000
        await self.pause(due_s - asyncio.get_running_loop().time())
        await forward(replace(chunk, at_s=due_s))


class Bandwidth(Stage):
    """So many bytes a second. The time a bite takes comes before it: a narrow wire delivers the last byte last."""

    async def carry(self, chunk: Chunk, forward: Forward) -> None:
        rest = chunk.data
        while rest:
            bytes_per_s = self.toxic.attributes["rate"] * 1000
            bite = len(rest) if self.ended.is_set() or not bytes_per_s else max(1, round(bytes_per_s * BITE_S))
            piece, rest = rest[:bite], rest[bite:]
            if bytes_per_s:
                await self.pause(len(piece) / bytes_per_s)
            await forward(Chunk(piece, asyncio.get_running_loop().time()))


class Slicer(Stage):
    """In pieces of about the same size, with a pause between."""

    async def carry(self, chunk: Chunk, forward: Forward) -> None:
        rest = chunk.data
        size, variation = self.toxic.attributes["average_size"], self.toxic.attributes["size_variation"]
        while rest and size and not self.ended.is_set():
            bite = max(1, size + self.chance.randint(-variation, variation))
            piece, rest = rest[:bite], rest[bite:]
            await forward(replace(chunk, data=piece))
            if rest:
                await self.pause(self.toxic.attributes["delay"] / 1_000_000)
        if rest:
            await forward(replace(chunk, data=rest))


class Timeout(Stage):
    """Nothing goes through any more, not even the end of the connection: the other side takes it that all is well.

    After `timeout` ms both sides are closed; with 0 when the toxic goes, because what was lost on the way is missing.
    """

    def begin(self) -> None:
        after_ms = self.toxic.attributes["timeout"]
        self._timer = asyncio.get_running_loop().call_later(after_ms / 1000, self.wire.close) if after_ms else None

    async def carry(self, chunk: Chunk, forward: Forward) -> None:
        """Dropped."""

    async def finish(self) -> None:
        await self.ended.wait()

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.wire.close()
        super().end()


class ResetPeer(Stage):
    """Both sides are told that the other has reset the connection, after `timeout` ms."""

    def begin(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self.toxic.attributes["timeout"] / 1000, self.wire.reset)

    def end(self) -> None:
        self._timer.cancel()
        super().end()


class SlowClose(Stage):
    """The end of the connection is told `delay` ms later."""

    async def finish(self) -> None:
        await self.pause(self.toxic.attributes["delay"] / 1000)


class LimitData(Stage):
    """The connection is closed when so many bytes have passed."""

    _passed = 0

    async def carry(self, chunk: Chunk, forward: Forward) -> None:
        left = self.toxic.attributes["bytes"] - self._passed
        piece = chunk.data[: max(0, left)]
        self._passed += len(piece)
        if piece:
            await forward(replace(chunk, data=piece))
        if len(chunk.data) >= left and not self.ended.is_set():
            self.wire.close()


class CutReply(Stage):
    """The first byte of a reply proves that the request was carried out: there the client's connection is closed.

    Whether a reply is cut is drawn anew for each one.
    """

    async def carry(self, chunk: Chunk, forward: Forward) -> None:
        begins, self.wire.asked = self.wire.asked, False
        if begins and not self.ended.is_set() and self.chance.random() < self.toxic.toxicity:
            self.toxic.touched += 1
            self.wire.close()
            return
        await forward(chunk)


KINDS: dict[str, type[Stage]] = {
    "latency": Latency,
    "bandwidth": Bandwidth,
    "slicer": Slicer,
    "timeout": Timeout,
    "reset_peer": ResetPeer,
    "slow_close": SlowClose,
    "limit_data": LimitData,
    "cut_reply": CutReply,
}
