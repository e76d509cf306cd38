"""The control interface: the HTTP interface of Toxiproxy 2, so that its clients work.

    GET /version   GET, POST /proxies   POST /reset (every proxy on, no toxics)
    GET, POST, PATCH, DELETE /proxies/{name}                  listen, upstream, enabled
    GET, POST                /proxies/{name}/toxics           name, type, stream, toxicity, attributes
    GET, POST, PATCH, DELETE /proxies/{name}/toxics/{toxic}   toxicity, attributes

An error is `{"error": …, "status": …}`. Changes come one after the other.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web

from loadtest.chaos.proxy.proxy import Proxy
from loadtest.chaos.proxy.toxics import Toxic

VERSION = "2.12.0"
"""Of Toxiproxy, whose interface this is: clients ask for it."""

BODY_BYTES_MAX = 64 * 1024
PROXIES_COUNT_MAX = 256
TOXICS_COUNT_MAX = 64

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status


class Control:
    """All proxies of one process."""

    def __init__(self, seed: int = 0) -> None:
        self.proxies: dict[str, Proxy] = {}
        self._seed = seed
        self._one_at_a_time = asyncio.Lock()

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._answering], client_max_size=BODY_BYTES_MAX)
        proxy, toxic = "/proxies/{name}", "/proxies/{name}/toxics/{toxic}"
        app.add_routes(
            [
                web.get("/version", self._version),
                web.post("/reset", self._reset),
                web.get("/proxies", self._list),
                web.post("/proxies", self._create),
                web.get(proxy, self._show),
                web.post(proxy, self._change),
                web.patch(proxy, self._change),
                web.delete(proxy, self._delete),
                web.get(f"{proxy}/toxics", self._list_toxics),
                web.post(f"{proxy}/toxics", self._add_toxic),
                web.get(toxic, self._show_toxic),
                web.post(toxic, self._change_toxic),
                web.patch(toxic, self._change_toxic),
                web.delete(toxic, self._remove_toxic),
            ]
        )
        return app

    async def close(self) -> None:
        """Disable every proxy."""
        await asyncio.gather(*(proxy.disable() for proxy in self.proxies.values()))

    @web.middleware
    async def _answering(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            async with self._one_at_a_time:
                return await handler(request)
        except Refused as refused:
            return _json({"error": str(refused), "status": refused.status}, refused.status)
        except ValueError as wrong:
            return _json({"error": str(wrong), "status": 400}, 400)
        except OSError as why:
            return _json({"error": f"cannot listen there: {why.strerror or why}", "status": 500}, 500)

    async def _version(self, _: web.Request) -> web.Response:
        return _json({"version": VERSION})

    async def _reset(self, _: web.Request) -> web.Response:
        for proxy in self.proxies.values():
            for name in tuple(proxy.toxics):
                proxy.remove(name)
            await proxy.enable()
        return web.Response(status=204)

    async def _list(self, _: web.Request) -> web.Response:
        return _json({name: proxy.told() for name, proxy in self.proxies.items()})

    async def _create(self, request: web.Request) -> web.Response:
        body = await _body(request)
        for field in ("name", "listen", "upstream"):
            if not isinstance(body.get(field), str) or not body[field]:
                raise Refused(400, f"missing required field: {field}")
        if body["name"] in self.proxies:
            raise Refused(409, "proxy already exists")
        if len(self.proxies) >= PROXIES_COUNT_MAX:
            raise Refused(400, f"there are {PROXIES_COUNT_MAX} proxies already")
        proxy = Proxy(body["name"], body["listen"], body["upstream"], self._seed)
        if body.get("enabled", True):
            await proxy.enable()
        self.proxies[proxy.name] = proxy
        return _json(proxy.told(), 201)

    async def _show(self, request: web.Request) -> web.Response:
        return _json(self._proxy(request).told())

    async def _change(self, request: web.Request) -> web.Response:
        proxy = self._proxy(request)
        await proxy.change(await _body(request))
        return _json(proxy.told())

    async def _delete(self, request: web.Request) -> web.Response:
        proxy = self._proxy(request)
        await proxy.disable()
        del self.proxies[proxy.name]
        return web.Response(status=204)

    async def _list_toxics(self, request: web.Request) -> web.Response:
        return _json(self._proxy(request).told()["toxics"])

    async def _add_toxic(self, request: web.Request) -> web.Response:
        proxy = self._proxy(request)
        if len(proxy.toxics) >= TOXICS_COUNT_MAX:
            raise Refused(400, f"there are {TOXICS_COUNT_MAX} toxics already")
        try:
            return _json(proxy.add(await _body(request)).told())
        except KeyError:
            raise Refused(409, "toxic already exists") from None

    async def _show_toxic(self, request: web.Request) -> web.Response:
        return _json(self._toxic(request).told())

    async def _change_toxic(self, request: web.Request) -> web.Response:
        known = self._toxic(request)
        return _json(self._proxy(request).add(await _body(request), known).told())

    async def _remove_toxic(self, request: web.Request) -> web.Response:
        self._proxy(request).remove(self._toxic(request).name)
        return web.Response(status=204)

    def _proxy(self, request: web.Request) -> Proxy:
        proxy = self.proxies.get(request.match_info["name"])
        if proxy is None:
            raise Refused(404, "proxy not found")
        return proxy

    def _toxic(self, request: web.Request) -> Toxic:
        toxic = self._proxy(request).toxics.get(request.match_info["toxic"])
        if toxic is None:
            raise Refused(404, "toxic not found")
        return toxic


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        raise Refused(400, "bad request body") from None
    if not isinstance(body, dict):
        raise Refused(400, "bad request body")
    return body


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")
