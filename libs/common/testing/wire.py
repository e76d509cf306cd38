"""A wire between a client and its server that a test can disturb."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit


class Wire:
    """Passes everything on to the server of a URL, until it loses the replies (and the connection with them) or keeps
    them to itself. `url` leads through it."""

    def __init__(self, server: str) -> None:
        self._server = urlsplit(server)
        self._ends: list[asyncio.StreamWriter] = []
        self.loses_replies = self.keeps_replies = False
        self.url = ""

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Wire"]:
        async with await asyncio.start_server(self._connect, "127.0.0.1", 0) as listening:
            port = listening.sockets[0].getsockname()[1]
            self.url = self._server._replace(netloc=f"127.0.0.1:{port}").geturl()
            try:
                yield self
            finally:
                for end in self._ends:
                    end.close()
                await asyncio.gather(*(end.wait_closed() for end in self._ends), return_exceptions=True)

    async def _connect(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(self._server.hostname, self._server.port)
        self._ends += [to_client, to_server]
        await asyncio.gather(
            self._pass(from_client, to_server, is_reply=False), self._pass(from_server, to_client, is_reply=True)
        )

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, is_reply: bool) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                if is_reply and self.loses_replies:
                    break
                if not (is_reply and self.keeps_replies):
                    target.write(data)
        target.close()
