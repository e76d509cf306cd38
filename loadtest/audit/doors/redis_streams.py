"""Redis Streams by XRANGE, XINFO and XPENDING: nothing that moves a group or a stream."""

from collections.abc import Iterator
from typing import Any

import redis

from libs.common.events.topics import TOPICS
from libs.common.messaging.redis_streams.entries import letters_key, stream_key
from loadtest.audit.doors.ports import CannotRead, Heard, Letter, Share, Stream

BATCH_COUNT = 5_000
PENDING_COUNT_MAX = 10_000
TIMEOUT_S = 10.0

Fields = dict[bytes, bytes]


class RedisDoor:
    def __init__(self, url: str) -> None:
        self._url = url

    def hear(self, bodies_of: frozenset[str]) -> Heard:
        try:
            client = redis.Redis.from_url(self._url, protocol=2, socket_timeout=TIMEOUT_S)
            with client:
                return _hear(client, bodies_of)
        except (redis.RedisError, OSError) as error:
            raise CannotRead(f"the broker's Redis: {error}") from error


def _hear(client: Any, bodies_of: frozenset[str]) -> Heard:
    heard = Heard()
    for topic in TOPICS.values():
        heard.streams[topic.name] = _stream(client, topic.name, with_bodies=topic.name in bodies_of)
        groups = _groups(client, topic.name)
        for group in topic.groups:
            heard.shares.append(_share(client, topic.name, group, groups.get(group)))
            heard.letters += [
                Letter(topic.name, group, position, _text(fields, b"ce_id"), _text(fields, b"error"))
                for position, fields in _entries(client, letters_key(topic.name, group))
            ]
    return heard


def _stream(client: Any, topic: str, *, with_bodies: bool) -> Stream:
    stream = Stream(topic)
    for position, fields in _entries(client, stream_key(topic)):
        stream.told[_text(fields, b"ce_id")] = _ms(position)
        if with_bodies:
            stream.bodies.append(fields.get(b"data", b""))
    # Asked after reading: what was trimmed meanwhile then counts as trimmed. What came before the server's last start
    # may be lost with the last second of its file, which costs time and no facts.
    server = client.info("server")
    started_ms = int(server["server_time_usec"]) // 1000 - int(server["uptime_in_seconds"]) * 1000
    stream.whole_from_ms = max(_whole_from_ms(client, stream_key(topic)), started_ms)
    return stream


def _whole_from_ms(client: Any, key: str) -> int:
    """The time of the oldest entry that is there; of a stream that is empty that of the last one that ever was, and of
    one that never was 0."""
    first = client.xrange(key, count=1)
    if first:
        return _ms(first[0][0].decode())
    return _ms(client.xinfo_stream(key)["last-generated-id"].decode()) if client.exists(key) else 0


def _groups(client: Any, topic: str) -> dict[str, str]:
    """The last delivered id of each group."""
    if not client.exists(stream_key(topic)):
        return {}
    found = client.xinfo_groups(stream_key(topic))
    return {group["name"].decode(): group["last-delivered-id"].decode() for group in found}


def _share(client: Any, topic: str, group: str, last_delivered: str | None) -> Share:
    key = stream_key(topic)
    since_ms = [_ms(position) for position, _ in _entries(client, key, after=last_delivered or "0-0")]
    if last_delivered is not None:
        pending = client.xpending_range(key, group, "-", "+", PENDING_COUNT_MAX)
        since_ms += [_ms(each["message_id"].decode()) for each in pending]
    return Share(topic, group, len(since_ms), min(since_ms, default=0))


def _entries(client: Any, key: str, after: str = "") -> Iterator[tuple[str, Fields]]:
    start = f"({after}" if after else "-"
    while True:
        found = client.xrange(key, min=start, count=BATCH_COUNT)
        for position, fields in found:
            yield position.decode(), fields or {}
        if len(found) < BATCH_COUNT:
            return
        start = f"({found[-1][0].decode()}"


def _ms(position: str) -> int:
    return int(position.partition("-")[0])


def _text(fields: Fields, name: bytes) -> str:
    return fields.get(name, b"").decode(errors="replace")
