"""The table of lines: where each room's line stands, from the ticks its leader announces."""

from libs.common.clock import Clock
from libs.common.contract.queue import RoomView
from libs.common.errors import DependencyDown
from services.gateway.domain import Line, RoomNotFound, merged_line
from services.gateway.service.queue_client import QueueClient
from services.gateway.service.single_flight import SingleFlight

READ_EVERY_S = 10.0
"""How often the rooms are read although every tick is heard: it finds new rooms and heals what nobody noticed. How old
a position may be that is told where nothing is heard follows from it (README.md), and the auditor goes by that."""

ASK_AGAIN_S = 1.0
"""How long an unknown room stays unknown without asking: made-up room numbers must not reach the queue one by one."""


class LineTable:
    """Lines by room. A position is computed from here and nowhere else."""

    def __init__(self, queue: QueueClient, clock: Clock) -> None:
        self._queue = queue
        self._clock = clock
        self._lines: dict[int, Line] = {}
        self._heard_s: dict[int, float] = {}
        self._reads: SingleFlight[None] = SingleFlight()
        self._read_s: float | None = None

    def hear(self, news: Line) -> None:
        """Merge what the leader of a line has said."""
        self._merge(news)
        self._heard_s[news.room] = self._clock.monotonic_s()

    def line(self, room: int) -> Line | None:
        return self._lines.get(room)

    async def find(self, room: int) -> Line:
        """The line of a room; one that is unknown is looked for at the queue. Raises RoomNotFound, DependencyDown."""
        if room not in self._lines and self._is_older_than(ASK_AGAIN_S):
            await self.read()
        line = self._lines.get(room)
        if line is None:
            raise RoomNotFound(f"There is no room {room}.")
        return line

    async def read(self) -> None:
        """Read all rooms from the queue. Raises DependencyDown."""
        await self._reads.run("rooms", self._read)

    async def read_if_due(self) -> bool:
        """Read all rooms when that is some time ago; never more to do at once."""
        if self._is_older_than(READ_EVERY_S):
            await self.read()
        return False

    async def ping(self) -> None:
        """Return when the lines are known. Raises DependencyDown before that."""
        if self._read_s is None:
            raise DependencyDown("the rooms have not been read from the queue yet")

    def age_s(self) -> float:
        """Seconds since the leader of the quietest line was last heard; 0 where there is none."""
        return max((self._clock.monotonic_s() - heard_s for heard_s in self._heard_s.values()), default=0.0)

    def _is_older_than(self, seconds: float) -> bool:
        return self._read_s is None or self._clock.monotonic_s() - self._read_s >= seconds

    async def _read(self) -> None:
        lines = [_line(room) for room in await self._queue.rooms()]
        self._read_s = self._clock.monotonic_s()
        for line in lines:
            self._merge(line)
            # To read of a line is not to hear its leader: `age_s` has to tell that nobody speaks.
            self._heard_s.setdefault(line.room, self._read_s)
        for gone in self._lines.keys() - {line.room for line in lines}:
            del self._lines[gone], self._heard_s[gone]

    def _merge(self, news: Line) -> None:
        known = self._lines.get(news.room)
        self._lines[news.room] = merged_line(known, news) if known else news


def _line(room: RoomView) -> Line:
    return Line(room.id, room.fence, room.tick, room.watermark, room.rate, room.state)
