"""Structured logs: one JSON object a line on standard output; cached, filtered, cheap.

A line is written for what an operator would act on. Requests are counted in metrics and not logged one by one,
because a line a request costs a fifth to a half of a small handler.

A line that cannot be written is lost, and counted in the next one that can: most are written where something has just
gone wrong, and whoever wants to go on there must not end because the disk is full, or the memory of a traceback is not
to be had.
"""

import logging
import sys
from typing import Any

import orjson
import structlog

from libs.common import trace


def _add_trace(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    traceparent = trace.current.get()
    if traceparent:
        event["trace_id"] = trace.trace_id(traceparent)
    return event


def _never_in_the_way(logger: type[structlog.typing.FilteringBoundLogger]) -> type[structlog.BoundLoggerBase]:
    lost_count = 0

    class Logger(logger):  # type: ignore[valid-type, misc]  # structlog makes a class for each level
        def _proxy_to_logger(self, method: str, event: str | None = None, **fields: Any) -> None:
            nonlocal lost_count
            if lost_count:
                fields["lines_lost"] = lost_count
            try:
                super()._proxy_to_logger(method, event, **fields)
            except (MemoryError, OSError):
                lost_count += 1
            else:
                lost_count = 0

    return Logger


def configure(service: str, instance: str, level: str = "info", style: str = "json") -> None:
    """Set up logging for this process: call once, before the first line."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace,
    ]
    renderers: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=orjson.dumps)]
        if style == "json"
        else [structlog.dev.ConsoleRenderer()]
    )
    structlog.configure(
        processors=shared + renderers,
        wrapper_class=_never_in_the_way(
            structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()])
        ),
        logger_factory=structlog.BytesLoggerFactory(sys.stdout.buffer)
        if style == "json"
        else structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service, instance=instance)
    # Libraries speak through the standard module: their warnings belong on the same stream.
    logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format="%(levelname)s %(name)s %(message)s")


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """A cached logger; `name` is the dotted module."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(module=name)
    return logger
