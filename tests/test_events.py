"""The catalogue of events: golden examples of every version are still understood, and still written the same."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from libs.common.errors import Poison
from libs.common.events import catalog, queue, reservation, wallet  # noqa: F401  entering their events
from libs.common.events.catalogue import EVENT_TYPES, from_message, to_message
from libs.common.messaging.ports import Message

GOLDEN = Path(__file__).parents[1] / "libs/common/events/golden"
"""One file per event and version: the message as a broker carries it, its data as JSON."""

FILES = sorted(GOLDEN.glob("*.json"))


def golden(path: Path) -> Message:
    fields: dict[str, Any] = orjson.loads(path.read_bytes())
    return Message(**{**fields, "data": orjson.dumps(fields["data"])})


def test_every_event_has_a_golden_example() -> None:
    assert {path.name.split(".")[0] for path in FILES} == set(EVENT_TYPES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_golden_example_is_read_and_written_again_unchanged(path: Path) -> None:
    message = golden(path)
    event = from_message(message)
    assert type(event).__name__ == message.type
    assert to_message(event, message.id, message.source, message.traceparent) == message


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_fields_of_a_later_minor_change_are_ignored_and_missing_ones_are_poison(path: Path) -> None:
    message = golden(path)
    data = orjson.loads(message.data)
    more = replace(message, data=orjson.dumps({**data, "added_later": {"x": 1}}))
    assert from_message(more) == from_message(message)
    for field in data:
        less = replace(message, data=orjson.dumps({name: value for name, value in data.items() if name != field}))
        with pytest.raises(Poison, match=field):
            from_message(less)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff", b'{"at_ms":"x"}', b"1" * 100])
def test_anything_else_is_poison(data: bytes) -> None:
    for name, entry in EVENT_TYPES.items():
        with pytest.raises(Poison):
            from_message(Message(entry.topic, "k", "id", name, "test", 1, data))
    with pytest.raises(Poison, match="unknown event type"):
        from_message(Message("queue.line.v1", "k", "id", "SomethingElse", "test", 1, b"{}"))
