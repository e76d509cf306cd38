"""What the gateway asks of the queue: typed calls, and the queue's refusals as Problems of our own."""

from typing import Any, TypeVar

import orjson

from libs.common.contract.operation import Model, Operation
from libs.common.contract.queue import (
    CLAIM,
    END_SESSION,
    ISSUE,
    READ_ROOMS,
    READ_SESSION,
    ClaimRequest,
    Joined,
    JoinRequest,
    RoomsView,
    RoomView,
    SessionView,
)
from libs.common.errors import (
    DependencyDown,
    FieldError,
    IdempotencyMismatch,
    InternalError,
    InvalidField,
    Overloaded,
    Problem,
    RateLimited,
    RequestInProgress,
    TokenInvalid,
)
from libs.common.tickets import Ticket
from libs.common.web.idempotency import HEADER, MADE_HEADER, IdempotencyKey
from libs.common.web.upstream import Reply
from services.gateway.domain import RoomClosed, RoomNotFound
from services.gateway.service.guarded import HTTP_SERVER_ERROR, GuardedUpstream

M = TypeVar("M", bound=Model)

TIMEOUT_S = 2.0
HTTP_ERROR = 400

REFUSALS: dict[str, type[Problem]] = {
    problem.code: problem
    for problem in (
        DependencyDown,
        IdempotencyMismatch,
        InvalidField,
        Overloaded,
        RateLimited,
        RequestInProgress,
        RoomClosed,
        RoomNotFound,
        TokenInvalid,
    )
}


class QueueClient:
    """The queue's internal operations. Every method raises DependencyDown when the queue does not answer."""

    def __init__(self, upstream: GuardedUpstream) -> None:
        self._upstream = upstream

    async def issue(self, request: JoinRequest, key: IdempotencyKey) -> Joined:
        """Take the next place in line. Raises RoomNotFound, RoomClosed.

        Under a key of our own making a second sending would take a second place, which nobody would ever come for: so
        it is only sent again with a key of the client's.
        """
        headers = {HEADER: key.value, **({MADE_HEADER: "1"} if key.made else {})}
        reply = await self._upstream.call(
            ISSUE.method,
            ISSUE.path,
            headers=headers,
            body=_encoded(request),
            timeout_s=TIMEOUT_S,
            repeatable=not key.made,
        )
        return _decoded(reply, Joined)

    async def claim(self, ticket: Ticket) -> SessionView:
        """Come in, if it is this ticket's turn."""
        body = _encoded(ClaimRequest(ticket=ticket.text))
        reply = await self._upstream.call(CLAIM.method, CLAIM.path, body=body, timeout_s=TIMEOUT_S)
        return _decoded(reply, SessionView)

    async def session(self, ticket: Ticket) -> SessionView:
        return await self._on_session(READ_SESSION, ticket)

    async def end(self, ticket: Ticket) -> SessionView:
        """Leave, waiting or inside."""
        return await self._on_session(END_SESSION, ticket)

    async def rooms(self) -> list[RoomView]:
        reply = await self._upstream.call(READ_ROOMS.method, READ_ROOMS.path, timeout_s=TIMEOUT_S)
        return _decoded(reply, RoomsView).rooms

    async def _on_session(self, operation: Operation, ticket: Ticket) -> SessionView:
        path = operation.path.replace("{ticket}", ticket.text)
        return _decoded(await self._upstream.call(operation.method, path, timeout_s=TIMEOUT_S), SessionView)


def _encoded(model: Model) -> bytes:
    return model.__pydantic_serializer__.to_json(model, by_alias=True)


def _decoded(reply: Reply, model: type[M]) -> M:
    if reply.status >= HTTP_ERROR:
        raise _refusal(reply)
    return model.model_validate_json(reply.body)


def _refusal(reply: Reply) -> Problem:
    """The queue's problem as one of ours; its `instance` would name an address that clients do not know."""
    is_problem = reply.headers.get("content-type", "").startswith("application/problem+json")
    told: dict[str, Any] = orjson.loads(reply.body) if is_problem else {}
    refusal = REFUSALS.get(told.get("code", ""))
    if refusal is None:
        if reply.status >= HTTP_SERVER_ERROR:
            return DependencyDown("The queue service could not answer; try again.", retry_after_s=1)
        return InternalError(f"The queue service did not understand us (status {reply.status}).")
    retry_after = reply.headers.get("retry-after")
    return refusal(
        told["detail"],
        errors=[FieldError(**error) for error in told.get("errors", ())],
        retry_after_s=int(retry_after) if retry_after else None,
    )
