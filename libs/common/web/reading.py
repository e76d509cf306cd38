"""From bytes to a checked model: every wrong field is named, nothing else comes through."""

import asyncio
import re
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

import orjson
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import ValidationError

from libs.common.contract.operation import Model
from libs.common.errors import BodyTooSlow, FieldError, InvalidField, MalformedRequest, NotJson
from libs.common.ids import INTEGER_MAX

M = TypeVar("M", bound=Model)

ERRORS_TOLD_MAX = 100
"""Wrong fields one answer names."""

DEPTH_MAX = 32
"""Nested arrays and objects in a body; more is nothing any of our bodies needs."""

_STRING = re.compile(rb'"(?:[^"\\]+|\\.?)*+"?', re.DOTALL)
"""A JSON string, or what is left of one: always a match, so that broken text is not searched twice."""

_AS_SQUARE = bytes.maketrans(b"{}", b"[]")
_OTHER_BYTES = bytes(set(range(256)) - set(b"[]{}"))


async def whole_body(request: web.Request, within_s: float | None = None) -> bytes:
    """The bytes of the body. Raises BodyTooSlow after `within_s` seconds, and MalformedRequest when the sender goes
    away before it is whole or breaks its coding."""
    if request.content.is_eof():  # it came with the head, as most do: no timer
        return await request.read()
    try:
        async with asyncio.timeout(within_s):
            return await request.read()
    except TimeoutError:
        raise BodyTooSlow("The body did not arrive in time.") from None
    except (ConnectionError, web.RequestPayloadError, HttpProcessingError):
        raise MalformedRequest("The body ended before it was whole, or is not coded as its head says.") from None


def read_body(request: web.Request, raw: bytes, model: type[M], required: bool) -> M:
    """The request's JSON body as `model`. Raises NotJson, MalformedRequest or InvalidField."""
    if not raw.strip():
        if required:
            raise MalformedRequest("A JSON body is needed.")
        return validated(model, {}, "")
    if request.content_type != "application/json":
        raise NotJson(f"Send application/json, not {request.content_type!a}.")
    return validated(model, parsed_json(raw), "")


def parsed_json(raw: bytes) -> Any:
    """Parse untrusted JSON. Raises MalformedRequest for what is not JSON or nests too deep."""
    if raw.count(b"[") + raw.count(b"{") > DEPTH_MAX and _depth(raw) > DEPTH_MAX:
        raise MalformedRequest(f"The body nests deeper than {DEPTH_MAX} levels.")
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as wrong:
        raise MalformedRequest(f"The body is not JSON: {wrong.msg} at character {wrong.pos}.") from None


def read_query(request: web.Request, model: type[M]) -> M:
    """The query string as `model`; its fields are integers, the only thing our queries take."""
    given: dict[str, Any] = {
        name: int(value) if value.isascii() and value.isdigit() and len(value) <= 16 else value
        for name, value in request.query.items()
    }
    return validated(model, given, "query:")


def path_integer(params: Mapping[str, str], name: str) -> int:
    """An id in the path: an integer from 1 to 2^53-1. Raises InvalidField."""
    text = params[name]
    if text.isascii() and text.isdigit() and len(text) <= 16 and 1 <= int(text) <= INTEGER_MAX:
        return int(text)
    wrong = FieldError(f"path:{name}", f"must be an integer from 1 to {INTEGER_MAX}")
    raise InvalidField(f"{name} in the path is not an id.", errors=[wrong])


def validated(model: type[M], value: Any, where: str) -> M:
    """`value` as `model`. Raises InvalidField with every wrong field; pointers start with `where`."""
    try:
        return model.model_validate(value, by_name=False)  # outside a field has one name, in camelCase
    except ValidationError as wrong:
        _refuse(wrong, where)


def _refuse(wrong: ValidationError, where: str) -> NoReturn:
    separator = "" if where else "/"
    errors = [
        FieldError(where + separator + "/".join(_escaped(part) for part in error["loc"]), error["msg"])
        if error["loc"]
        else FieldError(where, error["msg"])
        for error in wrong.errors(include_url=False, include_input=False, include_context=False)[:ERRORS_TOLD_MAX]
    ]
    raise InvalidField("Some fields are wrong; `errors` names each.", errors=errors)


def _escaped(part: str | int) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")


def _depth(raw: bytes) -> int:
    """Nesting depth of JSON text, counted no further than one past DEPTH_MAX. Wrong text gives some number; the parser
    then refuses it. Done by whole passes over the text: a venue has megabytes, and a loop over them takes seconds."""
    brackets = _STRING.sub(b"", raw).translate(_AS_SQUARE, _OTHER_BYTES)
    for depth in range(DEPTH_MAX + 1):
        inner = brackets.replace(b"[]", b"")  # the innermost level, everywhere
        if inner == brackets:
            return depth
        brackets = inner
    return DEPTH_MAX + 1
