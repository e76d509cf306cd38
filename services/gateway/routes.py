"""HTTP in: the token routes, answered here; all other operations, passed on to their service; the documentation."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

import orjson
from aiohttp import web

from libs.common.clock import iso_utc
from libs.common.contract.queue import JOIN, LEAVE, POLL, JoinRequest
from libs.common.errors import NotJson
from libs.common.web.admission import WAITING_TOKEN
from libs.common.web.idempotency import HEADER, REPLAYED_HEADER, IdempotencyKey, key_from
from libs.common.web.openapi import document
from libs.common.web.reading import read_body, whole_body
from libs.common.web.upstream import Reply
from services.gateway.service.docs_page import page
from services.gateway.service.forwarding import Forwarder, Incoming
from services.gateway.service.route_table import PUBLIC_OPERATIONS, Route
from services.gateway.service.waiting import Told, Waiting

Handler = Callable[[web.Request], Awaitable[web.Response]]

BODY_TIMEOUT_S = 5.0
"""How long a client may take over 16 KiB; with the head before it, less than a connection may be idle."""

PASSED_BACK = ("Content-Type", "Location", "Retry-After", REPLAYED_HEADER, "ETag", "Cache-Control", "Allow")
"""The headers of a service that reach the client."""

_PASSED_BACK = tuple((name.lower(), name) for name in PASSED_BACK)
_NOT_STORED = {"Content-Type": "application/json", "Cache-Control": "no-store"}


def join(waiting: Waiting) -> Handler:
    async def serve(request: web.Request) -> web.Response:
        raw = await _body(request)
        asked = read_body(request, raw, JoinRequest, JOIN.body_required)
        told = await waiting.join(asked, _key(request.headers, raw), _address(request))
        return web.Response(body=orjson.dumps(_view(told)), status=JOIN.success, headers=_NOT_STORED)

    return serve


def poll(waiting: Waiting) -> Handler:
    async def serve(request: web.Request) -> web.Response:
        told = await waiting.poll(request.headers.get(WAITING_TOKEN), _address(request))
        body = orjson.dumps({"waitingQueueWithPositionResult": _view(told)})
        return web.Response(body=body, status=POLL.success, headers=_NOT_STORED)

    return serve


def leave(waiting: Waiting) -> Handler:
    async def serve(request: web.Request) -> web.Response:
        key_from(request.headers, await _body(request))  # not needed to leave once, and refused as in every write
        await waiting.leave(request.headers.get(WAITING_TOKEN), _address(request))
        return web.Response(status=LEAVE.success)

    return serve


def forward(forwarder: Forwarder, route: Route) -> Handler:
    is_write = route.operation.is_write

    async def serve(request: web.Request) -> web.Response:
        headers = request.headers
        incoming = Incoming(
            path=request.rel_url.raw_path_qs,
            address=_address(request),
            token=headers.get(WAITING_TOKEN),
            key=headers.get(HEADER),
            content_type=_content_type(headers),
            # Read before a slot is taken: a slow sender holds up nobody but itself.
            body=await _body(request) if is_write else b"",
        )
        return _passed_back(await forwarder.forward(route, incoming))

    return serve


def add_routes(app: web.Application, waiting: Waiting, forwarder: Forwarder, routes: tuple[Route, ...]) -> None:
    """The public routes."""
    for operation, handler in ((JOIN, join(waiting)), (POLL, poll(waiting)), (LEAVE, leave(waiting))):
        app.router.add_route(operation.method, operation.path, handler)
    for route in routes:
        app.router.add_route(route.operation.method, route.operation.path, forward(forwarder, route))


def add_documentation(app: web.Application) -> None:
    """`/openapi.json` and `/docs`, written once."""
    described = document("Stagedoor", "1", PUBLIC_OPERATIONS)
    as_json, as_page = orjson.dumps(described), page(described)

    async def openapi(_: web.Request) -> web.Response:
        return web.Response(body=as_json, content_type="application/json")

    async def docs(_: web.Request) -> web.Response:
        return web.Response(
            body=as_page,
            content_type="text/html",
            charset="utf-8",
            headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
        )

    app.router.add_get("/openapi.json", openapi)
    app.router.add_get("/docs", docs)


def _address(request: web.Request) -> str:
    return request.remote or ""


async def _body(request: web.Request) -> bytes:
    """The whole body. Raises NotJson for a packed one, which would have to be unpacked before its size is known, and
    what `whole_body` raises."""
    if "Content-Encoding" in request.headers:
        raise NotJson("Send the body as it is, without Content-Encoding.")
    return await whole_body(request, BODY_TIMEOUT_S)


def _key(headers: Mapping[str, str], body: bytes) -> IdempotencyKey:
    """The key of a write, marked as made by us only where the client sent none, whatever it says."""
    return replace(key_from(headers, body), made=HEADER not in headers)


def _content_type(headers: Mapping[str, str]) -> str:
    """What a body claims to be. Raises NotJson for a claim that cannot be passed on: bytes beyond ASCII."""
    given = headers.get("Content-Type", "application/octet-stream")
    if not given.isascii():
        raise NotJson("Send application/json.")
    return given


def _view(told: Told) -> dict[str, object]:
    place = told.place
    return {
        "uuid": told.ticket,
        "position": place.position,
        "state": place.state,
        "room": told.room,
        "pollAfterMs": place.poll_after_ms,
        "etaSeconds": place.eta_seconds,
        "expiresAt": None if place.expires_ms is None else iso_utc(place.expires_ms),
    }


def _passed_back(reply: Reply) -> web.Response:
    headers = {name: reply.headers[lower] for lower, name in _PASSED_BACK if lower in reply.headers}
    return web.Response(body=reply.body, status=reply.status, headers=headers)
