"""Messages as stream entries, and Redis' replies as plain values: the only place that knows either shape.

An entry is a CloudEvent in binary mode: each attribute a field `ce_…`, the JSON value in `data`. Replies are RESP2
(`libs.common.redis_client` never asks for another protocol), from 6.2 on; fields that later servers add are ignored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from libs.common.messaging.cloudevents import attributes, message_from, text
from libs.common.messaging.ports import DeadLetter, Message
from libs.common.redis_client import Argument

KEY_PREFIX = "stagedoor:topic:"

EntryId = tuple[int, int]
"""Milliseconds and a sequence within them: `1760000000123-4`."""

BEGINNING: EntryId = (0, 0)


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry as read; `fields` is None when it was trimmed while it was pending."""

    id: bytes
    fields: list[bytes] | None


def stream_key(topic: str) -> str:
    return KEY_PREFIX + topic


def letters_key(topic: str, group: str) -> str:
    """The stream of a group's dead letters: `<topic>.dlq.<group>`."""
    return f"{KEY_PREFIX}{topic}.dlq.{group}"


def parse_id(written: bytes) -> EntryId:
    milliseconds, _, sequence = written.partition(b"-")
    return int(milliseconds), int(sequence or 0)


def id_text(id_: EntryId) -> str:
    return f"{id_[0]}-{id_[1]}"


def add_command(message: Message) -> list[Argument]:
    """The XADD that publishes a message. Never with MAXLEN: that deletes what nobody has read yet."""
    return ["XADD", stream_key(message.topic), "*", *_fields(message)]


def bury_command(message: Message, group: str, position: bytes, error: str) -> list[Argument]:
    """The XADD that puts a message among the dead letters, with where it came from and why it died."""
    origin: list[Argument] = [
        "origin_topic", message.topic, "origin_group", group, "origin_position", position, "error", error,
    ]  # fmt: skip
    return ["XADD", letters_key(message.topic, group), "*", *_fields(message), *origin]


def _fields(message: Message) -> list[Argument]:
    told: list[Argument] = [part for attribute in attributes(message) for part in attribute]
    return [*told, "key", message.key, "data", message.data]


def message_of(topic: str, fields: Sequence[bytes]) -> Message:
    """The message in an entry. What someone else wrote into the stream has empty parts, which no handler knows."""
    named = _named(fields)
    return message_from(topic, text(named.get("key")), named, named.get("data", b""))


def letter_of(topic: str, group: str, entry: Entry) -> DeadLetter:
    fields = entry.fields or []
    return DeadLetter(entry.id.decode(), group, text(_named(fields).get("error")), message_of(topic, fields))


def _named(fields: Sequence[bytes]) -> dict[str, bytes]:
    return {text(name): value for name, value in zip(fields[::2], fields[1::2], strict=False)}


def entries_of(reply: Any) -> list[Entry]:
    """XRANGE and XREVRANGE: `[[id, [field, value, …]], …]`."""
    return [Entry(item[0], item[1]) for item in reply or () if item is not None]


def read_entries(reply: Any) -> list[Entry]:
    """XREAD and XREADGROUP of one stream: `[[key, [[id, fields], …]]]`, or None when the time was up."""
    return entries_of(reply[0][1]) if reply else []


def claimed_ids(reply: Any) -> tuple[bytes, list[bytes]]:
    """XAUTOCLAIM … JUSTID: where to go on (`0-0` at the end) and the ids; 7.0 adds a third part."""
    return reply[0], [id_ for id_ in reply[1] if id_ is not None]


def pending_of(reply: Any) -> tuple[int, EntryId | None]:
    """XPENDING, summary form: how many, and the oldest."""
    return reply[0], parse_id(reply[1]) if reply[1] is not None else None


def pending_ids(reply: Any) -> list[bytes]:
    """XPENDING, extended form: the ids."""
    return [item[0] for item in reply]


def groups_of(reply: Any) -> dict[str, EntryId]:
    """XINFO GROUPS: each group's last delivered id."""
    found = {}
    for item in reply:
        named = dict(zip(item[::2], item[1::2], strict=True))
        found[named[b"name"].decode()] = parse_id(named[b"last-delivered-id"])
    return found


def last_generated_id(reply: Any) -> EntryId:
    """XINFO STREAM: the id of the newest entry there ever was."""
    return parse_id(dict(zip(reply[::2], reply[1::2], strict=True))[b"last-generated-id"])


def server_info(reply: bytes) -> dict[str, str]:
    """INFO: `name:value` lines."""
    lines = (line.partition(":") for line in reply.decode().splitlines() if not line.startswith("#"))
    return {name: value for name, _, value in lines}
