"""What every part of the service works on."""

from dataclasses import dataclass

from libs.common.clock import Clock
from services.queue.domain.line import LineRules, Room, RoomNotFound
from services.queue.metrics import QueueMetrics
from services.queue.ports import JoinKeys, Rooms, Sessions


@dataclass(frozen=True, slots=True)
class Line:
    """The documents, rules and surroundings of all rooms. `process` names this process and no other, past or future."""

    rooms: Rooms
    sessions: Sessions
    joins: JoinKeys
    rules: LineRules
    clock: Clock
    metrics: QueueMetrics
    process: str

    async def room(self, id_: int) -> Room:
        """The document of a room. Raises RoomNotFound for one that this service does not keep."""
        found = await self.rooms.get(id_) if id_ in self.metrics.rooms else None
        if found is None:
            raise RoomNotFound(f"Room {id_} does not exist; room 1 is the one without a name.")
        return found
