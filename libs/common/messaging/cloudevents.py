"""Messages as CloudEvents 1.0 in binary mode: each attribute a name and a short text, the JSON value apart from them.

Brokers differ in where they put the attributes; what these are called and mean is here, once.
"""

from collections.abc import Mapping

from libs.common.clock import epoch_ms, iso_utc
from libs.common.messaging.ports import Message


def attributes(message: Message) -> list[tuple[str, str]]:
    """All of a message but its value and its place in the broker."""
    return [
        ("ce_id", message.id),
        ("ce_source", message.source),
        ("ce_type", message.type),
        ("ce_specversion", "1.0"),
        ("ce_time", iso_utc(message.time_ms)),
        ("ce_subject", message.key),
        ("traceparent", message.traceparent),
        ("content-type", "application/json"),
    ]


def message_from(topic: str, key: str, given: Mapping[str, bytes], data: bytes) -> Message:
    """The message of these attributes. What someone else wrote has empty parts, which no handler knows."""
    return Message(
        topic=topic,
        key=key,
        id=text(given.get("ce_id")),
        type=text(given.get("ce_type")),
        source=text(given.get("ce_source")),
        time_ms=_time_ms(text(given.get("ce_time"))),
        data=data,
        traceparent=text(given.get("traceparent")),
    )


def text(value: bytes | None) -> str:
    """An attribute as text, whatever its bytes."""
    return (value or b"").decode(errors="replace")


def _time_ms(written: str) -> int:
    try:
        return epoch_ms(written)
    except ValueError:
        return 0
