"""Keeping the rooms: opening and changing them, ending visits that ran out, forgetting old ones."""

from dataclasses import asdict

from libs.common import log
from libs.common.jobs import each
from services.queue.domain.joins import KEY_KEPT_MS
from services.queue.domain.line import Room, RoomChange, change_room
from services.queue.domain.visits import Session, expire
from services.queue.service.line import Line

EXPIRIES_PER_BITE_MAX = 100
PURGES_PER_BITE_MAX = 1_000

logger = log.get_logger(__name__)


class Keeping:
    """What operators and the clock ask of the rooms."""

    def __init__(self, line: Line, room_capacity: int) -> None:
        self._line = line
        self._room_capacity = room_capacity
        self._purgeable = dict.fromkeys(line.metrics.rooms, 0)

    async def open_rooms(self) -> None:
        """Make the rooms that are missing; the others stay as operators left them."""
        for room_id in self._line.metrics.rooms:
            await self._line.rooms.create(Room(room_id, self._room_capacity))

    async def rooms(self) -> list[Room]:
        """Every room as its document stands."""
        return [await self._line.room(room_id) for room_id in self._line.metrics.rooms]

    async def change(self, room_id: int, change: RoomChange, who: str, why: str) -> Room:
        """Change a room for an operator, and say so in the log; the room after it. Raises RoomNotFound."""
        await self._line.room(room_id)
        before, after = await self._line.rooms.update(room_id, lambda found: change_room(found, change))
        old, new = asdict(before), asdict(after)
        changed = {name: [old[name], new[name]] for name in ("state", "capacity", "opens_at_ms")}
        logger.info("room changed", room=room_id, who=who, why=why, **changed)
        return after

    async def sweep(self, room_id: int) -> bool:
        """End visits that are over by every clock. True when there may be more."""
        now_ms = self._line.clock.now_ms()
        until_ms = now_ms - self._line.rules.clock_skew_ms
        overdue = await self._line.sessions.overdue(room_id, until_ms, EXPIRIES_PER_BITE_MAX)
        expired = self._line.metrics.rooms[room_id].ended["expired"]

        async def end(session: Session) -> None:
            did = await self._line.sessions.update(
                room_id, session.sequence, lambda found: expire(found, until_ms, now_ms)
            )
            expired.inc(did)

        went_well = await each(overdue, end, EXPIRIES_PER_BITE_MAX)
        return went_well and len(overdue) == EXPIRIES_PER_BITE_MAX

    async def purge(self, room_id: int) -> bool:
        """Delete sessions under the floor. True when there may be more.

        It trails the floor by one pause of the job: a claim that read the room just before the floor moved must still
        find its session, or it would open a second visit on the same place.
        """
        gone = await self._line.sessions.purge(room_id, self._purgeable[room_id], PURGES_PER_BITE_MAX)
        if gone == PURGES_PER_BITE_MAX:
            return True
        self._purgeable[room_id] = (await self._line.room(room_id)).floor
        return False

    async def purge_joins(self) -> bool:
        """Forget joins that are older than their key is good for. True when there may be more."""
        before_ms = self._line.clock.now_ms() - KEY_KEPT_MS
        return await self._line.joins.purge(before_ms, PURGES_PER_BITE_MAX) == PURGES_PER_BITE_MAX
