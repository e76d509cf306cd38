"""Operations bound to handlers: reads the request as the operation describes it, then one call of the handler.

A handler receives a `Call` and returns what `answer()` makes. It translates; it decides nothing.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from aiohttp import web

from libs.common.contract.operation import Model, Operation
from libs.common.errors import TokenMissing
from libs.common.web.admission import Admission, admission_from
from libs.common.web.idempotency import REPLAYED_HEADER, IdempotencyKey, key_from
from libs.common.web.reading import path_integer, read_body, read_query, whole_body

S = TypeVar("S")


@dataclass(frozen=True)
class Call(Generic[S]):
    """One request, read and checked. `body` and `query` are of the operation's models, None where it has none."""

    service: S
    body: Any
    query: Any
    key: IdempotencyKey
    params: Mapping[str, str]
    given_admission: Admission | None

    def integer(self, name: str) -> int:
        """An id in the path."""
        return path_integer(self.params, name)

    @property
    def admission(self) -> Admission:
        """The verified ticket; operations that need one are only reached with one."""
        if self.given_admission is None:
            raise TokenMissing("This needs a ticket verified by the gateway.")
        return self.given_admission


Handle = Callable[[Call[Any]], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A row of a room's wiring table."""

    operation: Operation
    handle: Handle


def bind(app: web.Application, service: object, endpoints: tuple[Endpoint, ...]) -> None:
    """Add a room's routes to its app."""
    for endpoint in endpoints:
        app.router.add_route(endpoint.operation.method, endpoint.operation.path, _handler(service, endpoint))


def answer(
    model: Model,
    status: int = 200,
    *,
    replayed: bool = False,
    location: str | None = None,
    retry_after_s: int | None = None,
) -> web.Response:
    """A JSON response. `replayed`: this is the first answer again. `retry_after_s`: it is worth asking again then."""
    headers = {REPLAYED_HEADER: "true"} if replayed else {}
    if location is not None:
        headers["Location"] = location
    if retry_after_s is not None:
        headers["Retry-After"] = str(retry_after_s)
    body = model.__pydantic_serializer__.to_json(model, by_alias=True)
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)


def _handler(service: object, endpoint: Endpoint) -> Callable[[web.Request], Awaitable[web.Response]]:
    operation, handle = endpoint.operation, endpoint.handle
    no_key = IdempotencyKey("", "", made=True)

    async def serve(request: web.Request) -> web.Response:
        raw = await whole_body(request) if operation.is_write else b""
        return await handle(
            Call(
                service=service,
                body=read_body(request, raw, operation.body, operation.body_required) if operation.body else None,
                query=read_query(request, operation.query) if operation.query else None,
                key=key_from(request.headers, raw) if operation.is_write else no_key,
                params=request.match_info,
                given_admission=admission_from(request.headers),
            )
        )

    return serve
