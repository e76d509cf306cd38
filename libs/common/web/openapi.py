"""The OpenAPI 3.1 document of a set of operations: written from the same tables that the services bind and the gateway
routes, so that it cannot describe anything else."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

from pydantic.json_schema import JsonSchemaMode, models_json_schema

from libs.common.contract.operation import Model, Operation
from libs.common.ids import INTEGER_MAX
from libs.common.web.admission import WAITING_TOKEN
from libs.common.web.idempotency import HEADER, REPLAYED_HEADER
from libs.common.web.problems import CONTENT_TYPE

STATUS_BY_CODE = {
    "MALFORMED_REQUEST": 400,
    "TOKEN_MISSING": 401,
    "TOKEN_INVALID": 401,
    "NOT_ENOUGH_POINTS": 402,
    "STILL_WAITING": 403,
    "SESSION_EXPIRED": 403,
    "WRONG_ROOM": 403,
    "NOT_YOURS": 403,
    "ROOM_NOT_FOUND": 404,
    "CONCERT_NOT_FOUND": 404,
    "SCHEDULE_NOT_FOUND": 404,
    "SEAT_NOT_FOUND": 404,
    "RESERVATION_NOT_FOUND": 404,
    "USER_NOT_FOUND": 404,
    "BODY_TOO_SLOW": 408,
    "ROOM_CLOSED": 409,
    "SEAT_TAKEN": 409,
    "HOLD_EXPIRED": 409,
    "ALREADY_PAID": 409,
    "NOT_PAID": 409,
    "REQUEST_IN_PROGRESS": 409,
    "SCHEDULE_PUBLISHED": 409,
    "BODY_TOO_LARGE": 413,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "INVALID_FIELD": 422,
    "TOO_MANY_SEATS": 422,
    "IDEMPOTENCY_MISMATCH": 422,
    "RATE_LIMITED": 429,
    "INTERNAL": 500,
    "OVERLOADED": 503,
    "DEPENDENCY_DOWN": 503,
}
"""Every code of the contract. A code that is missing here cannot be documented, so adding one is noticed."""

ALWAYS = ("MALFORMED_REQUEST", "RATE_LIMITED", "INTERNAL", "OVERLOADED", "DEPENDENCY_DOWN")
"""Of every operation; MALFORMED_REQUEST because what cannot be read as HTTP, an address that is too long for example,
is refused before anybody knows which operation it was for."""

BODY_CODES = ("BODY_TOO_SLOW", "BODY_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE", "INVALID_FIELD")
"""Of every write: one without a body of its own is still refused a body that cannot be read."""
TICKET_CODES = {
    "none": (),
    "any": ("TOKEN_MISSING", "TOKEN_INVALID"),
    "inside": ("TOKEN_MISSING", "TOKEN_INVALID", "STILL_WAITING", "SESSION_EXPIRED"),
    "inside-or-ended": ("TOKEN_MISSING", "TOKEN_INVALID", "STILL_WAITING", "SESSION_EXPIRED"),
}

_IN_PATH = re.compile(r"{(\w+)}")
_REF = "#/components/schemas/{model}"
_RETRY_AFTER = {"description": "seconds", "schema": {"type": "integer"}}

PROBLEM_SCHEMA: dict[str, Any] = {
    "description": "RFC 9457. `code` and `type` are stable; some codes bring members of their own.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance", "code", "traceId"],
    "properties": {
        "type": {"type": "string", "examples": ["/problems/seat-taken"]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "code": {"type": "string", "enum": [*STATUS_BY_CODE, "ROUTE_NOT_FOUND", "METHOD_NOT_ALLOWED"]},
        "traceId": {"type": "string", "description": "names the request in our logs"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
        "position": {"type": "integer", "description": "with STILL_WAITING: the place in line"},
    },
}


def document(title: str, version: str, operations: Sequence[Operation]) -> dict[str, Any]:
    """The OpenAPI 3.1 document, ready to be written as JSON. Raises KeyError for a problem code nobody defined.

    Parameters in paths whose name ends in `Id` are integers, all others strings.
    """
    schemas = _Schemas(operations)
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for operation in operations:
        paths[operation.path][operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "servers": [{"url": "/"}],
        "tags": [{"name": room} for room in dict.fromkeys(operation.room for operation in operations)],
        "paths": dict(paths),
        "components": {
            "schemas": {**schemas.definitions, "Problem": PROBLEM_SCHEMA},
            "securitySchemes": {
                "waitingToken": {
                    "type": "apiKey",
                    "in": "header",
                    "name": WAITING_TOKEN,
                    "description": "the `uuid` that joining the line answers with",
                }
            },
        },
    }


class _Schemas:
    """The JSON schemas of all models that the operations name."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        wanted: dict[tuple[type[Model], JsonSchemaMode], None] = {}
        for operation in operations:
            if operation.body is not None:
                wanted[operation.body, "validation"] = None
            if operation.answer is not None:
                wanted[operation.answer, "serialization"] = None
        self._refs, described = models_json_schema(list(wanted), ref_template=_REF)
        self.definitions: dict[str, Any] = described.get("$defs", {})

    def body(self, model: type[Model]) -> dict[str, Any]:
        return self._refs[model, "validation"]

    def answer(self, model: type[Model]) -> dict[str, Any]:
        return self._refs[model, "serialization"]


def _operation(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.room],
        "parameters": _parameters(operation),
        "responses": {**_successes(operation, schemas), **_problems(operation)},
    }
    if operation.ticket != "none":
        described["security"] = [{"waitingToken": []}]
    if operation.body is not None:
        content = {"application/json": {"schema": schemas.body(operation.body)}}
        described["requestBody"] = {"required": operation.body_required, "content": content}
    return described


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": _path_schema(name)}
        for name in _IN_PATH.findall(operation.path)
    ]
    queried = operation.query.model_json_schema() if operation.query else {}
    in_query = [
        {"name": name, "in": "query", "required": name in queried.get("required", ()), "schema": schema}
        for name, schema in queried.get("properties", {}).items()
    ]
    key = {
        "name": HEADER,
        "in": "header",
        "required": False,
        "description": "the same key and body get the first answer again",
        "schema": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[\\x21-\\x7e]+$"},
    }
    return [*in_path, *in_query, *([key] if operation.is_write else [])]


def _path_schema(name: str) -> dict[str, Any]:
    return {"type": "integer", "minimum": 1, "maximum": INTEGER_MAX} if name.endswith("Id") else {"type": "string"}


def _successes(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    success: dict[str, Any] = {"description": HTTPStatus(operation.success).phrase}
    if operation.is_write:
        replayed = {"description": "`true` when this is the first answer again", "schema": {"type": "string"}}
        success["headers"] = {REPLAYED_HEADER: replayed}
    if operation.answer is not None:
        success["content"] = {"application/json": {"schema": schemas.answer(operation.answer)}}
    successes = {str(operation.success): success}
    if operation.answers_later:
        location = {"description": "where to ask for the outcome", "schema": {"type": "string"}}
        headers = {"Location": location, "Retry-After": _RETRY_AFTER}
        successes["202"] = {**success, "description": "Not decided yet", "headers": headers}
    return successes


def _problems(operation: Operation) -> dict[str, Any]:
    by_status: dict[int, list[str]] = defaultdict(list)
    for code in _codes(operation):
        by_status[STATUS_BY_CODE[code]].append(code)
    return {str(status): _problem_response(by_status[status]) for status in sorted(by_status)}


def _codes(operation: Operation) -> Iterable[str]:
    codes = [*TICKET_CODES[operation.ticket], *operation.problems]
    if operation.is_write:
        codes += BODY_CODES
    elif operation.query or _IN_PATH.search(operation.path):
        codes += ("INVALID_FIELD",)
    return dict.fromkeys((*codes, *ALWAYS))


def _problem_response(codes: Sequence[str]) -> dict[str, Any]:
    waits = any(
        STATUS_BY_CODE[code] in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE) for code in codes
    )
    return {
        "description": ", ".join(f"`{code}`" for code in codes),
        "content": {CONTENT_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}},
        **({"headers": {"Retry-After": _RETRY_AFTER}} if waits else {}),
    }
