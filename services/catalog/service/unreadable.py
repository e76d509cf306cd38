"""What could not be read: said once, and put off for a while, so that one broken document takes away itself alone.

Nothing mends it but a person, so readers are refused without asking the store, and what waits for everything to be in
memory does not wait for this. Whatever is looked at again and can be read then is as any other.
"""

from libs.common import log
from libs.common.clock import Clock
from libs.common.errors import DependencyDown

LOOK_AGAIN_S = 10
"""How soon a document that was mended is told again, at the latest."""

COUNT_MAX = 10_000
"""Keys remembered; of more than these, some are looked at and logged more often."""

logger = log.get_logger(__name__)


class Unreadable(DependencyDown):
    """It is there, and is not what this version reads. A 503 that says when to come back: to those who call us, one
    broken document must not look like a catalog that fails."""


class UnreadableKeys:
    """The keys of one kind that could not be read when they were last looked at."""

    def __init__(self, kind: str, clock: Clock) -> None:
        self._kind = kind
        self._clock = clock
        self._until_s: dict[int, float] = {}

    def are_put_off(self, key: int) -> bool:
        """True when it is too soon to look at the key again."""
        return self._until_s.get(key, 0.0) > self._clock.monotonic_s()

    def check(self, key: int) -> None:
        """Raises Unreadable when it is too soon to look at the key again."""
        if self.are_put_off(key):
            raise self._refusal(key)

    def found(self, key: int, wrong: Exception) -> Unreadable:
        """The key could not be read: what to tell those who wait for it."""
        if key not in self._until_s:
            act = "restore its document from a backup, or roll back the release that cannot read it"
            logger.error("cannot be read", kind=self._kind, key=key, act=act, exc_info=wrong)
        self._until_s[key] = self._clock.monotonic_s() + LOOK_AGAIN_S
        if len(self._until_s) > COUNT_MAX:
            self._until_s.pop(next(iter(self._until_s)))
        return self._refusal(key)

    def forget(self, key: int) -> None:
        """It was read, or there is news of it."""
        self._until_s.pop(key, None)

    def _refusal(self, key: int) -> Unreadable:
        return Unreadable(f"What is stored of {self._kind} {key} cannot be read.", retry_after_s=LOOK_AGAIN_S)
