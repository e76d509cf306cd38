"""Lag and trimming, every few seconds, by every bus instance: what two of them do is the same thing twice.

Nothing is trimmed that a group has not finished, and nothing young. For a topic with groups, the bound is the oldest
pending entry of any of them, or what follows the last delivered one where nothing is pending; a declared group that
does not exist yet has finished nothing. A topic that is only listened to is trimmed by age alone. Ages are told by
Redis' own clock, which also made the ids. `~` lets Redis drop whole nodes only, so each trim is a bounded bite.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from libs.common.events.topics import TOPICS
from libs.common.messaging.redis_streams import entries
from libs.common.messaging.redis_streams.entries import EntryId
from libs.common.messaging.redis_streams.settings import Context
from libs.common.redis_client import Argument, RedisReplied

LAG_COUNT_MAX = 1_000
"""Undelivered entries that are counted one by one; above, the stream's length is told, which is an upper bound."""


@dataclass(slots=True)
class GroupState:
    """Where a group stands on a topic."""

    last_delivered: EntryId
    pending_count: int = 0
    oldest_pending: EntryId | None = None

    @property
    def unfinished(self) -> EntryId:
        """Everything before this id is finished."""
        return self.oldest_pending or (self.last_delivered[0], self.last_delivered[1] + 1)


@dataclass(slots=True)
class Janitor:
    """`topics` are those this instance publishes or reads, `shares` its (topic, group) pairs; both grow as it runs."""

    context: Context
    topics: dict[str, None] = field(default_factory=dict)
    shares: dict[tuple[str, str], None] = field(default_factory=dict)

    async def look(self) -> bool:
        """One round: read where every group stands, tell the lag, trim. Never leaves more for another round at once."""
        now_ms, states = await self._states()
        for (topic, group), state in self._ours(states):
            lag = state.pending_count + await self._undelivered(topic, state.last_delivered)
            self.context.metrics.consumer_lag.labels(topic, group).set(lag)
        trims: list[list[Argument]] = []
        for topic, groups in states.items():
            bound = self._bound(topic, groups, now_ms)
            if bound is not None:
                trims.append(["XTRIM", entries.stream_key(topic), "MINID", "~", entries.id_text(bound)])
        await self.context.commands.call_many(trims)
        return False

    async def _states(self) -> tuple[int, dict[str, dict[str, GroupState]]]:
        """Redis' time (epoch ms), and per existing topic its groups."""
        topics = list(self.topics)
        asked = [("XINFO", "GROUPS", entries.stream_key(topic)) for topic in topics]
        time, *infos = await self.context.commands.replies([("TIME",), *asked])
        if isinstance(time, RedisReplied):
            raise time
        states = {
            topic: {name: GroupState(last) for name, last in entries.groups_of(info).items()}
            for topic, info in zip(topics, infos, strict=True)
            if not isinstance(info, RedisReplied)  # no such stream yet
        }
        # After the above, not before: entries delivered in between are then pending or finished, never overlooked.
        pairs = [(topic, group) for topic, groups in states.items() for group in groups]
        summaries = await self.context.commands.call_many(
            [("XPENDING", entries.stream_key(topic), group) for topic, group in pairs]
        )
        for (topic, group), summary in zip(pairs, summaries, strict=True):
            state = states[topic][group]
            state.pending_count, state.oldest_pending = entries.pending_of(summary)
        return int(time[0]) * 1000 + int(time[1]) // 1000, states

    def _ours(self, states: Mapping[str, Mapping[str, GroupState]]) -> Iterable[tuple[tuple[str, str], GroupState]]:
        for topic, group in self.shares:
            state = states.get(topic, {}).get(group)
            if state is not None:
                yield (topic, group), state

    async def _undelivered(self, topic: str, last: EntryId) -> int:
        """How many entries come after `last`. Servers before 7.0 do not count them."""
        key = entries.stream_key(topic)
        found = await self.context.commands.call(
            "XRANGE", key, f"({entries.id_text(last)}", "+", "COUNT", LAG_COUNT_MAX
        )
        return len(found) if len(found) < LAG_COUNT_MAX else int(await self.context.commands.call("XLEN", key))

    def _bound(self, topic: str, groups: Mapping[str, GroupState], now_ms: int) -> EntryId | None:
        """The id below which a topic may be trimmed; None when nothing may go."""
        declared = TOPICS[topic].groups if topic in TOPICS else ()
        if any(name not in groups for name in declared):
            return None
        by_age = (max(0, now_ms - self.context.retention_ms(topic)), 0)
        return min([by_age, *(state.unfinished for state in groups.values())])
