"""The partitions of a topic in the hands of a group: who gets which, and how far one is."""

from dataclasses import dataclass, field

from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata

from libs.common.messaging.ports import Message

AHEAD_COUNT_MAX = 10_000
"""How far a partition goes on beyond its oldest unfinished message: what a crash would repeat."""


@dataclass(slots=True)
class Progress:
    """One partition in our hands. `next` follows the last message taken, and is -1 before the first."""

    next: int = -1
    committed: int = -1
    unfinished: dict[int, Message] = field(default_factory=dict)
    """By offset, in their order."""

    @property
    def finished(self) -> int:
        """Everything below this offset is finished."""
        return next(iter(self.unfinished), self.next)

    @property
    def is_far_ahead(self) -> bool:
        return self.next - self.finished >= AHEAD_COUNT_MAX


class InTurn(RoundRobinPartitionAssignor):  # type: ignore[misc]  # aiokafka ships no types
    """Partitions in turn. A group shares them anew when a member joins again and says something else than before: count
    `joins` up for that."""

    joins = 0

    def metadata(self, topics: set[str]) -> ConsumerProtocolMemberMetadata:
        return ConsumerProtocolMemberMetadata(self.version, list(topics), b"%d" % self.joins)
