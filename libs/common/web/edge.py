"""The outermost layer of every app: trace, deadline, metrics, and problems for whatever goes wrong inside.

One middleware instead of four, because each costs a call and a task switch on every request.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import cache

from aiohttp import web
from prometheus_client import Histogram

from libs.common import log, trace
from libs.common.clock import Clock
from libs.common.errors import (
    BodyTooLarge,
    DependencyDown,
    InternalError,
    MalformedRequest,
    MethodNotAllowed,
    Problem,
    RouteNotFound,
)
from libs.common.metrics import CommonMetrics
from libs.common.web.problems import problem_response

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

logger = log.get_logger(__name__)


def edge(clock: Clock, metrics: CommonMetrics, deadline_s: float) -> Callable[..., Awaitable[web.StreamResponse]]:
    """The middleware of an app whose requests may take `deadline_s` seconds each."""
    observed = _observer(metrics.http_request_seconds)

    @web.middleware
    async def serve(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("traceparent", "")
        trace.current.set(given if trace.is_valid(given) else trace.fresh())
        started_s = clock.monotonic_s()
        metrics.http_requests_running.inc()
        try:
            async with asyncio.timeout(deadline_s):
                response = await handler(request)
        except Problem as problem:
            response = problem_response(problem, request.path)
        except web.HTTPException as refused:
            response = _refusal(refused, request)
        except TimeoutError:
            response = problem_response(_too_slow(deadline_s), request.path)
        except Exception:
            logger.exception("request failed", method=request.method, path=request.path)
            response = problem_response(InternalError("The failure is logged under this traceId."), request.path)
        finally:
            metrics.http_requests_running.dec()
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "unmatched"
        observed(request.method, route, response.status).observe(clock.monotonic_s() - started_s)
        return response

    return serve


def _observer(histogram: Histogram) -> Callable[[str, str, int], Histogram]:
    """The child of (method, route, status), kept: methods of our routes only, so the set is bounded."""

    @cache
    def child(method: str, route: str, status: int) -> Histogram:
        return histogram.labels(method if route != "unmatched" else "any", route, str(status))

    return child


def _too_slow(deadline_s: float) -> Problem:
    return DependencyDown(
        f"This took longer than {deadline_s:g} s; a write may still have happened, so repeat it with the same key.",
        retry_after_s=1,
    )


def _refusal(refused: web.HTTPException, request: web.Request) -> web.Response:
    """aiohttp's own refusals in our words."""
    if isinstance(refused, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(refused.allowed_methods))
        response = problem_response(MethodNotAllowed(f"Use {allowed} here."), request.path)
        response.headers["Allow"] = allowed
        return response
    problem: Problem
    if isinstance(refused, web.HTTPNotFound):
        problem = RouteNotFound(f"No route matches {request.path}.")
    elif isinstance(refused, web.HTTPRequestEntityTooLarge):
        problem = BodyTooLarge("The body is larger than this route takes.")
    else:
        problem = MalformedRequest(refused.reason)
    return problem_response(problem, request.path)
