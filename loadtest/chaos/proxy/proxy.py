"""One proxy: where it listens, where it leads, what is wrong with it, and its connections."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from loadtest.chaos.proxy import addresses
from loadtest.chaos.proxy.addresses import will_reset
from loadtest.chaos.proxy.link import Link
from loadtest.chaos.proxy.toxics import Toxic, toxic_from

LINKS_COUNT_MAX = 8_192
"""Connections of one proxy; more are reset at once."""


@dataclass
class Proxy:
    """`listen` is the real address once it listens. Chance comes from `seed`, and from the number of the connection
    among all that the proxy ever had: the same calls in the same order meet the same faults."""

    name: str
    listen: str
    upstream: str
    seed: int = 0
    toxics: dict[str, Toxic] = field(default_factory=dict)

    def __post_init__(self) -> None:
        addresses.check(self.listen)
        addresses.check(self.upstream)
        self._server: asyncio.Server | None = None
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepted_count = 0

    @property
    def enabled(self) -> bool:
        return self._server is not None

    def told(self) -> dict[str, Any]:
        """As the control interface shows it."""
        toxics = [toxic.told() for toxic in self.toxics.values()]
        return {
            "name": self.name,
            "listen": self.listen,
            "upstream": self.upstream,
            "enabled": self.enabled,
            "toxics": toxics,
        }

    async def enable(self) -> None:
        """Listen. Raises OSError when the address cannot be had."""
        if self._server is None:
            self._server, self.listen = await addresses.listen(self.listen, self._accept)

    async def disable(self) -> None:
        """Refuse new connections and end all there are."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        await asyncio.to_thread(addresses.forget, self.listen)
        for link in self._links:
            link.close()
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def change(self, body: Mapping[str, Any]) -> None:
        """Take over what the body says of `listen`, `upstream` and `enabled`. Connections end when an address changes.

        Raises ValueError for what no proxy can be, OSError when it cannot listen there.
        """
        listen, upstream = (str(body.get(name) or getattr(self, name)) for name in ("listen", "upstream"))
        addresses.check(listen)
        addresses.check(upstream)
        wanted = body.get("enabled", self.enabled)
        if (listen, upstream) != (self.listen, self.upstream) or not wanted:
            await self.disable()
            self.listen, self.upstream = listen, upstream
        if wanted:
            await self.enable()

    def add(self, body: Mapping[str, Any], known: Toxic | None = None) -> Toxic:
        """Put a toxic on every connection, those there are included; `known` is the one it takes the place of.

        Raises ValueError for what is no toxic, KeyError when there is another one of that name.
        """
        toxic = toxic_from(body, known)
        if known is None and toxic.name in self.toxics:
            raise KeyError(toxic.name)
        self.toxics[toxic.name] = toxic
        for link in tuple(self._links):
            link.put(toxic)
        return toxic

    def remove(self, name: str) -> None:
        """Raises KeyError when there is no such toxic."""
        toxic = self.toxics.pop(name)
        for link in tuple(self._links):
            link.remove(toxic)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (the stream server makes a task of every connection)
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._accepted_count += 1
        number = self._accepted_count
        try:
            if len(self._links) >= LINKS_COUNT_MAX:
                raise ConnectionRefusedError
            upstream = await addresses.connect(self.upstream)
        except OSError:
            will_reset(writer)
            return
        link = Link(
            (reader, writer),
            upstream,
            lambda toxic: Random(f"{self.seed}/{self.name}/{number}/{toxic.name}"),  # noqa: S311 (faults, not secrets)
        )
        if not self.enabled:
            link.close()
        for toxic in tuple(self.toxics.values()):
            link.put(toxic)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)
