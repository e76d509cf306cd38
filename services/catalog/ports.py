"""What the catalog needs from the outside."""

from collections.abc import Sequence
from typing import Protocol

from services.catalog.domain import Concert, Layout, SeatState, Venue


class Shelf(Protocol):
    """The truth about what is on sale. Raises DependencyDown where it cannot be reached."""

    async def concerts(self) -> list[Concert]:
        """Every concert, by id."""
        ...

    async def concert(self, concert: int) -> Concert | None: ...

    async def layout(self, schedule: int) -> Layout | None:
        """The published layout of a schedule; None as long as no concert names one."""
        ...

    async def owner(self, schedule: int) -> int | None:
        """The concert a schedule id belongs to, published or only proposed."""
        ...

    async def propose(self, layout: Layout) -> None:
        """Store a layout beside what is on sale; nobody sees it yet. Raises AlreadyPublished."""
        ...

    async def publish(self, venue: Venue, now_ms: int) -> Concert:
        """Put the venue's proposed layouts on sale in one step; the whole concert. Raises AlreadyPublished."""
        ...


class SharedCache(Protocol):
    """Copies that all processes share. May be slow, empty or gone: it saves the store work and is never the truth."""

    async def get(self, key: str) -> bytes | None:
        """Raises DependencyDown."""
        ...

    async def put(self, key: str, value: bytes, ttl_s: float) -> None:
        """Raises DependencyDown."""
        ...

    async def drop(self, key: str) -> None:
        """Raises DependencyDown."""
        ...


class SeatNews(Protocol):
    """The reservation service's own account of the seats of a schedule."""

    async def touched(self, schedule: int) -> Sequence[tuple[int, int, SeatState]]:
        """(seat, n, state) of every seat anybody ever held. Raises DependencyDown."""
        ...
