"""Mutants of what the services stand on: store, outbox, folding and bus."""

from collections.abc import Sequence
from typing import Any

from libs.common.messaging.memory import _Consumer
from libs.common.messaging.outbox import OutboxRelay
from libs.common.storage import folding
from libs.common.storage.memory import MemoryCollection
from tests.simulation.patching import Undo, attribute


def no_outbox() -> Sequence[Undo]:
    original = MemoryCollection.swap

    async def swap(self: Any, id_: str, expected: int, body: Any, events: Any) -> None:
        await original(self, id_, expected, body, events)
        for event in events:
            self._store.outbox.pop(event.id, None)

    return [attribute(MemoryCollection, "swap", swap)]


def blind_writes() -> Sequence[Undo]:
    original = MemoryCollection.swap

    async def swap(self: Any, id_: str, expected: int, body: Any, events: Any) -> None:
        current = self._documents.get(id_)
        await original(self, id_, current[0] if expected and current else expected, body, events)

    return [attribute(MemoryCollection, "swap", swap)]


def kept_state_is_believed() -> Sequence[Undo]:
    async def check(self: Any, id_: str, guess: Any) -> None:
        self._keep(id_, *guess)

    return [attribute(folding.Documents, "_check", check)]


def progress_before_effect() -> Sequence[Undo]:
    original = _Consumer.pump

    def pump(self: Any) -> None:
        original(self)
        progress = self._broker.progress(self.topic, self.group)
        for position in self.held():
            progress.pending.pop(position, None)

    return [attribute(_Consumer, "pump", pump)]


def no_relay_scan() -> Sequence[Undo]:
    async def scan(self: OutboxRelay) -> bool:
        return False

    return [attribute(OutboxRelay, "_scan", scan)]
