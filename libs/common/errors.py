"""Errors that are told to a client, once, and say what to do. Pure.

A `Problem` is raised by whoever finds it out and becomes `application/problem+json` at the edge
(`libs.common.web.problems`). `code` and `status` are part of the public contract and never change.
Problems that only one room can find out are defined in that room's `domain.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field: an RFC 6901 pointer into the body (or `?name`, `header:Name`) and what is wrong with it."""

    pointer: str
    detail: str


class Problem(Exception):
    """Base of every error of the public contract. Subclasses set the three class variables."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "INTERNAL"
    title: ClassVar[str] = "Something went wrong on our side"

    def __init__(
        self,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        retry_after_s: int | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)
        self.retry_after_s = retry_after_s
        self.extra = extra or {}


class InternalError(Problem):
    """Ours, not the caller's: the detail names no internals; the trace id leads to the log line that does."""


class MalformedRequest(Problem):
    status, code, title = 400, "MALFORMED_REQUEST", "The request cannot be read"


class TokenMissing(Problem):
    status, code, title = 401, "TOKEN_MISSING", "A waiting token is needed"


class TokenInvalid(Problem):
    status, code, title = 401, "TOKEN_INVALID", "This waiting token does not verify"


class SessionExpired(Problem):
    status, code, title = 403, "SESSION_EXPIRED", "This visit has ended"


class WrongRoom(Problem):
    status, code, title = 403, "WRONG_ROOM", "This ticket belongs to another line"


class NotYours(Problem):
    status, code, title = 403, "NOT_YOURS", "This belongs to someone else"


class RouteNotFound(Problem):
    status, code, title = 404, "ROUTE_NOT_FOUND", "There is nothing at this address"


class MethodNotAllowed(Problem):
    status, code, title = 405, "METHOD_NOT_ALLOWED", "This address does not take this method"


class BodyTooSlow(Problem):
    status, code, title = 408, "BODY_TOO_SLOW", "The request body takes too long"


class RequestInProgress(Problem):
    status, code, title = 409, "REQUEST_IN_PROGRESS", "The same request is still being worked on"


class BodyTooLarge(Problem):
    status, code, title = 413, "BODY_TOO_LARGE", "The request body is too large"


class NotJson(Problem):
    status, code, title = 415, "UNSUPPORTED_MEDIA_TYPE", "Only JSON is understood here"


class InvalidField(Problem):
    status, code, title = 422, "INVALID_FIELD", "Some fields are wrong"


class IdempotencyMismatch(Problem):
    status, code, title = 422, "IDEMPOTENCY_MISMATCH", "This Idempotency-Key was used for another request"


class RateLimited(Problem):
    status, code, title = 429, "RATE_LIMITED", "Too many requests"


class Overloaded(Problem):
    status, code, title = 503, "OVERLOADED", "Too busy for this right now"


class DependencyDown(Problem):
    status, code, title = 503, "DEPENDENCY_DOWN", "A part this needs does not answer"


class ConfigError(Exception):
    """A setting that cannot work. One sentence that names the setting; the process prints it and exits 1."""


class Poison(Exception):
    """A message that no retry can help: it goes to the dead letters at once."""


class Transient(Exception):
    """A message that could not be handled now, through no fault of its own: try again after a bounded back-off."""
