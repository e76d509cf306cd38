"""Topics on Redis Streams, as an action needs them. Everything raises DependencyDown when Redis does not answer."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from libs.common.messaging.ports import Message
from libs.common.messaging.redis_streams import entries
from libs.common.redis_client import RedisClient

ENTRIES_COUNT_MAX = 10_000


async def last(url: str, topic: str, count: int) -> list[Message]:
    """The newest messages of a topic, as far as they are kept."""
    async with _client(url) as client:
        found = await client.call("XREVRANGE", entries.stream_key(topic), "+", "-", "COUNT", count)
    return [entries.message_of(topic, entry.fields or []) for entry in entries.entries_of(found)]


async def rewind(url: str, topic: str, group: str) -> int:
    """Let the group begin again with the first message that is kept; how many there are."""
    async with _client(url) as client:
        key = entries.stream_key(topic)
        await client.call("XGROUP", "SETID", key, group, "0")
        return int(await client.call("XLEN", key))


async def remove(url: str, topic: str, groups: Sequence[str], mark: str) -> int:
    """Remove the messages whose id begins with `mark` from the newest of a topic, and their letters; how many entries
    that were."""
    removed = 0
    async with _client(url) as client:
        for key in (entries.stream_key(topic), *(entries.letters_key(topic, group) for group in groups)):
            found = entries.entries_of(await client.call("XREVRANGE", key, "+", "-", "COUNT", ENTRIES_COUNT_MAX))
            messages = {entry.id: entries.message_of(topic, entry.fields or []) for entry in found}
            ours = [id_ for id_, message in messages.items() if message.id.startswith(mark)]
            if ours:
                removed += int(await client.call("XDEL", key, *ours))
    return removed


@asynccontextmanager
async def _client(url: str) -> AsyncIterator[RedisClient]:
    client = RedisClient(url, timeout_s=5.0, name="stagedoor-chaos", setting="BROKER_URL")
    try:
        yield client
    finally:
        await client.close()
