"""The ticket: a UUID that proves itself, so that nothing is stored per waiting person.

Layout (version 8 of RFC 9562, most significant bit first):

    bits    4        16     40-bit sequence                 62
          ┌──────┬────────┬──────────────────────────┬────────────────────────┐
          │ key  │  room  │ place in order of arrival │ keyed MAC over the rest │
          └──────┴────────┴──────────────────────────┴────────────────────────┘

with the UUID's own 4 version bits and 2 variant bits in their places. Only the canonical lower-case form verifies:
a second spelling of a ticket would be a second name for one person.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from libs.common.errors import ConfigError

ROOM_MAX = 2**16 - 1
SEQUENCE_MAX = 2**40 - 1
KEY_ID_MAX = 15

_MAC_BITS = 62
_VERSION, _VARIANT = 0x8, 0b10
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Ticket:
    """A verified ticket. `sequence` counts from 1 in order of arrival within `room`."""

    text: str
    room: int
    sequence: int


class TicketCodec:
    """Signs and verifies. A new key verifies everywhere before it signs anywhere; retiring one ends its tickets."""

    def __init__(self, keys: Mapping[int, bytes], signing_key: int) -> None:
        if signing_key not in keys:
            raise ConfigError(f"TICKET_SIGNING_KEY: key {signing_key} is not among TICKET_KEYS")
        self._keys = dict(keys)
        self._signing_key = signing_key

    @classmethod
    def from_settings(cls, keys: str, signing_key: int) -> "TicketCodec":
        """`keys` is `id:hex,id:hex…`: ids 0–15, secrets of at least 16 bytes. Raises ConfigError."""
        parsed: dict[int, bytes] = {}
        for item in filter(None, keys.split(",")):
            key_id, _, secret = item.strip().partition(":")
            try:
                number, material = int(key_id), bytes.fromhex(secret)
            except ValueError:
                raise ConfigError("TICKET_KEYS: expected id:hex pairs separated by commas") from None
            if not 0 <= number <= KEY_ID_MAX or len(material) < 16:
                raise ConfigError("TICKET_KEYS: ids go from 0 to 15 and secrets have at least 16 bytes (32 hex digits)")
            parsed[number] = material
        if not parsed:
            raise ConfigError("TICKET_KEYS: no key given; set for example TICKET_KEYS=1:<32 hex digits>")
        return cls(parsed, signing_key)

    def sign(self, room: int, sequence: int) -> str:
        """The ticket of one place in line, as canonical text."""
        plain = (self._signing_key << 56) | (room << 40) | sequence
        return _format(plain, self._mac(self._keys[self._signing_key], plain))

    def verify(self, text: str) -> Ticket | None:
        """The ticket behind `text`, or None when it is not one of ours. Compares in constant time."""
        value = _parse(text)
        if value is None:
            return None
        plain, mac = value
        secret = self._keys.get(plain >> 56)
        if secret is None:
            return None
        if not hmac.compare_digest(mac.to_bytes(8, "big"), self._mac(secret, plain).to_bytes(8, "big")):
            return None
        return Ticket(text, room=(plain >> 40) & ROOM_MAX, sequence=plain & SEQUENCE_MAX)

    @staticmethod
    def _mac(secret: bytes, plain: int) -> int:
        digest = hashlib.blake2b(plain.to_bytes(8, "big"), key=secret[:64], digest_size=8).digest()
        return int.from_bytes(digest, "big") >> (64 - _MAC_BITS)


def _format(plain: int, mac: int) -> str:
    # 60 plain bits and 62 MAC bits around the version (bits 48-51) and the variant (bits 64-65).
    high, low = plain >> 12, plain & 0xFFF
    value = (high << 80) | (_VERSION << 76) | (low << 64) | (_VARIANT << 62) | mac
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _parse(text: str) -> tuple[int, int] | None:
    if len(text) != 36 or text[8] + text[13] + text[18] + text[23] != "----":
        return None
    digits = text[:8] + text[9:13] + text[14:18] + text[19:23] + text[24:]
    if not _HEX.issuperset(digits):
        return None
    value = int(digits, 16)
    if (value >> 76) & 0xF != _VERSION or (value >> 62) & 0b11 != _VARIANT:
        return None
    plain = ((value >> 80) << 12) | ((value >> 64) & 0xFFF)
    return plain, value & ((1 << _MAC_BITS) - 1)
