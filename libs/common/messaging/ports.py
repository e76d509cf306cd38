"""The event bus as the services see it. Every adapter passes `libs.common.testing.bus_contract`.

Delivery is at least once and in no promised order: handlers are idempotent and need none.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Message:
    """A CloudEvents 1.0 event in binary mode, on its way.

    `id` is the dedupe key and follows from the committed change that caused it; `data` is the JSON value.
    """

    topic: str
    key: str
    id: str
    type: str
    source: str
    time_ms: int
    data: bytes
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message no retry can help, with where it came from and why it died. `position` names it within its topic."""

    position: str
    group: str
    error: str
    message: Message


Handler = Callable[[Message], Awaitable[None]]
"""Handles one message. The exception's type is the routing decision: `Poison` → dead letters at once,
`Transient` → tried again after a bounded back-off, anything else stops the consumer without committing."""

OnGap = Callable[[], Awaitable[None]]
"""Told to a listener that may have missed messages: it should read the truth afresh."""


class EventBus(Protocol):
    """Publish, share the work of a topic within a group, or hear everything."""

    async def start(self) -> None:
        """Connect. Raises ConfigError when the broker cannot be what the settings say."""
        ...

    async def stop(self) -> None:
        """Stop consumers after the message in hand, then disconnect. Bounded in time."""
        ...

    async def ping(self) -> None:
        """Return when the broker answers and every consumer runs; raise DependencyDown otherwise."""
        ...

    async def publish(self, messages: Sequence[Message]) -> None:
        """Return when the broker has all of them. Raises DependencyDown in bounded time; some may have gone out."""
        ...

    async def subscribe(self, topic: str, group: str, handler: Handler) -> None:
        """From now on this process takes its share of what `group` has not finished, from the topic's first message on.

        Progress is committed after the effect. Handlers run side by side, a bounded number at a time.
        """
        ...

    async def listen(self, topic: str, handler: Handler, on_gap: OnGap) -> None:
        """Hear every message published after this call returns; `on_gap` is awaited when some may have been missed.

        A listener has no progress to commit and no dead letters: a message it cannot handle is a gap.
        """
        ...

    async def dead_letters(self, topic: str, group: str, count_max: int) -> list[DeadLetter]:
        """The oldest dead letters of a group on a topic."""
        ...

    async def redeliver(self, letter: DeadLetter) -> None:
        """Publish the letter's message to its own topic again and take it from the dead letters."""
        ...
