"""How errors leave the house: `application/problem+json` (RFC 9457), always of one shape."""

from typing import Any

import orjson
from aiohttp import web

from libs.common import trace
from libs.common.errors import Problem

CONTENT_TYPE = "application/problem+json"


def problem_response(problem: Problem, instance: str) -> web.Response:
    """The response for a problem met while serving the path `instance`."""
    document = problem_document(problem, instance, trace.trace_id(trace.current.get()))
    headers = {} if problem.retry_after_s is None else {"Retry-After": str(problem.retry_after_s)}
    return web.Response(body=orjson.dumps(document), status=problem.status, content_type=CONTENT_TYPE, headers=headers)


def problem_document(problem: Problem, instance: str, trace_id: str) -> dict[str, Any]:
    """What the body of that response says."""
    return {
        "type": f"/problems/{problem.code.lower().replace('_', '-')}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": instance,
        "code": problem.code,
        "traceId": trace_id,
        **({"errors": problem.errors} if problem.errors else {}),
        **problem.extra,
    }
