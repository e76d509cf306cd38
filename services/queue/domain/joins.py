"""A join that is sent twice with a client's own key: the same ticket again.

The place is taken in the room document and the key is remembered in a document of its own, because the room must not
grow per join; and no step covers two documents. So the key is claimed first, then the place is taken, then the place is
written under the key. A crash between leaves a key without a place: after `KEY_LAPSES_MS` the next sending takes a new
one, and the place that was lost lapses like that of anyone who does not come. The other order (place first) would give
two sendings that arrive together two places, of which one would be told and then taken back.

Keys that the gateway made for a client who sent none are not remembered: no second request can carry them, except the
gateway's own repeat of a join whose reply was lost, and that costs an empty place as well.
"""

from dataclasses import dataclass, replace

from libs.common.errors import IdempotencyMismatch, RequestInProgress
from libs.common.storage.ports import Decision

KEY_LAPSES_MS = 10_000
"""A key that was claimed and got no place for this long is free for the next sending."""

RELEASED_MS = 0
"""The time of a key whose join was refused: free at once, for whatever body, and the next purge takes it."""

KEY_KEPT_MS = 24 * 60 * 60 * 1000
"""How long a join is recognised."""


@dataclass(frozen=True, slots=True)
class JoinKey:
    """A key, the digest of the body it came with, who claimed it when, and the place it got: None until it has one."""

    digest: str
    owner: str
    at_ms: int
    sequence: int | None = None


def claim_key(found: JoinKey | None, digest: str, owner: str, now_ms: int) -> Decision[JoinKey, int | None]:
    """The place that the key has, or None: `owner` now has to take one.

    Raises IdempotencyMismatch for another body, RequestInProgress while somebody else is taking the place.
    """
    if found is None or found.at_ms == RELEASED_MS:
        return Decision(None, JoinKey(digest, owner, now_ms))
    if found.digest != digest:
        raise IdempotencyMismatch("This key came with another join; use a new key for a new one.")
    if found.sequence is not None:
        return Decision(found.sequence)
    if found.owner != owner and now_ms - found.at_ms < KEY_LAPSES_MS:
        raise RequestInProgress("The first join with this key is not finished; try again.", retry_after_s=1)
    return Decision(None, replace(found, owner=owner, at_ms=now_ms))


def keep_place(found: JoinKey | None, claimed: JoinKey, sequence: int) -> Decision[JoinKey, int]:
    """Write a place under its key; the place the key has, which is another when a twin was faster."""
    if found is not None and found.sequence is not None:
        return Decision(found.sequence)
    return Decision(sequence, replace(claimed, sequence=sequence))


def release_key(found: JoinKey | None, owner: str) -> Decision[JoinKey, None]:
    """Free a key whose join was refused: refusals are not kept."""
    if found is None or found.owner != owner or found.sequence is not None:
        return Decision(None)
    return Decision(None, replace(found, at_ms=RELEASED_MS))
