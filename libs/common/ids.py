"""Ids that follow from what they name. Pure: the same parts give the same id on every machine and at every try."""

import hashlib

import orjson

INTEGER_MAX = 2**53 - 1
"""The largest integer that every client language keeps exactly; the bound of every id and amount."""


def derived_id(prefix: str, *parts: str | int) -> str:
    """`derived_id("r", 7, "hold", "key-1")` → `r-` and 32 hex digits.

    A write whose reply was lost is sent again with the same key, derives the same id and so finds its own effect.
    """
    digest = hashlib.blake2b(orjson.dumps(parts), digest_size=16).hexdigest()
    return f"{prefix}-{digest}"


def fingerprint(body: bytes) -> str:
    """A short digest of a request body, to tell the same request from another one under the same key."""
    return hashlib.blake2b(body, digest_size=12).hexdigest()
