"""What can be wrong with a wire, as the control interface names it: the types and their attributes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

UPSTREAM, DOWNSTREAM = "upstream", "downstream"
STREAMS = (UPSTREAM, DOWNSTREAM)
"""From the client to the server, and back."""

ATTRIBUTE_MAX = 2**31

ATTRIBUTES: dict[str, dict[str, int]] = {
    "latency": {"latency": 0, "jitter": 0},
    "bandwidth": {"rate": 0},
    "slicer": {"average_size": 0, "size_variation": 0, "delay": 0},
    "timeout": {"timeout": 0},
    "reset_peer": {"timeout": 0},
    "slow_close": {"delay": 0},
    "limit_data": {"bytes": 0},
    "cut_reply": {},
}
"""Each type with its attributes and what they are when nothing is said. Times are milliseconds, the slicer's delay is
microseconds, the rate is KB/s (1 KB is 1,000 bytes, 0 is no limit)."""


@dataclass(slots=True)
class Toxic:
    """`touched` counts the connections it was drawn for; of `cut_reply`, the replies that were cut."""

    name: str
    type: str
    stream: str = DOWNSTREAM
    toxicity: float = 1.0
    attributes: dict[str, int] = field(default_factory=dict)
    touched: int = 0

    def told(self) -> dict[str, Any]:
        """As the control interface shows it."""
        return {
            "name": self.name,
            "type": self.type,
            "stream": self.stream,
            "toxicity": self.toxicity,
            "attributes": self.attributes,
            "touched": self.touched,
        }


def toxic_from(body: Mapping[str, Any], known: Toxic | None = None) -> Toxic:
    """A toxic as asked for; what is not said is as in `known`, else as usual. Raises ValueError with one sentence."""
    type_ = known.type if known else body.get("type")
    if not isinstance(type_, str) or type_ not in ATTRIBUTES:
        raise ValueError(f"type: expected one of {', '.join(ATTRIBUTES)} (given: {type_!r})")
    stream = known.stream if known else str(body.get("stream") or DOWNSTREAM).lower()
    if stream not in STREAMS:
        raise ValueError(f"stream: expected {' or '.join(STREAMS)} (given: {stream!r})")
    if type_ == "cut_reply" and stream != DOWNSTREAM:
        raise ValueError("stream: a reply goes downstream, so cut_reply does too")
    toxicity = body.get("toxicity", known.toxicity if known else 1.0)
    if isinstance(toxicity, bool) or not isinstance(toxicity, int | float) or not 0 <= toxicity <= 1:
        raise ValueError(f"toxicity: expected a number from 0 to 1 (given: {toxicity!r})")
    name = known.name if known else str(body.get("name") or f"{type_}_{stream}")
    usual = {**ATTRIBUTES[type_], **(known.attributes if known else {})}
    return Toxic(name, type_, stream, float(toxicity), {**usual, **_attributes(type_, body.get("attributes") or {})})


def _attributes(type_: str, given: Any) -> dict[str, int]:
    if not isinstance(given, dict) or not given.keys() <= ATTRIBUTES[type_].keys():
        known = ", ".join(ATTRIBUTES[type_]) or "none"
        raise ValueError(f"attributes: {type_} has {known} (given: {given!r})")
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= ATTRIBUTE_MAX:
            raise ValueError(f"attributes: {name} is a whole number from 0 to {ATTRIBUTE_MAX} (given: {value!r})")
    return given
