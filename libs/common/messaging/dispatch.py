"""From a message to the function that handles its event, and the one place that decides what is worth trying again.

A service answers its HTTP callers and its events with the same code, which speaks in Problems. A Problem with status
503 (a part is down, too busy, contended) will pass by itself, so the event waits for it. Any other Problem is an answer
that the handler should have dealt with: it stops the consumer, loudly.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from libs.common import trace
from libs.common.errors import Poison, Problem, Transient
from libs.common.events.catalogue import EVENT_TYPES, from_message
from libs.common.messaging.ports import Handler, Message

SERVICE_UNAVAILABLE = 503

Entry = Callable[[Any], Awaitable[None]]
"""Handles one event of the type it is entered under."""


def dispatcher(table: Mapping[type, Entry]) -> Handler:
    """The handler of a topic: each event goes to the entry of its type, under the trace of what caused it.

    Known types without an entry are skipped: a topic tells more than one reader needs. Raises Poison for what no
    version of us wrote, Transient for a Problem with status 503, and passes everything else through.
    """
    for model in table:
        if model.__name__ not in EVENT_TYPES:
            raise ValueError(f"{model.__name__} is not in the catalogue of events")
    entries = {model.__name__: entry for model, entry in table.items()}

    async def dispatch(message: Message) -> None:
        entry = entries.get(message.type)
        if entry is None:
            if message.type not in EVENT_TYPES:
                raise Poison(f"unknown event type {message.type!r}")
            return
        event = from_message(message)
        token = trace.current.set(message.traceparent)
        try:
            await entry(event)
        except Problem as problem:
            if problem.status == SERVICE_UNAVAILABLE:
                raise Transient(f"{problem.code}: {problem.detail}") from problem
            raise
        finally:
            trace.current.reset(token)

    return dispatch
