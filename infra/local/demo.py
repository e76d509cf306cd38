"""The demo: one concert and many wallets, loaded at the first start of a store and never again."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from infra.local.settings import DemoFigures, LocalSettings
from infra.local.state import StateDir

CONCERT_ID = 1
SEAT_PRICE_POINTS = 10_000
ROW_SEATS = 25
SECTION_SEATS = 250

# Fixed, so that a load that was cut off is repeated with the very same body.
_FIRST_NIGHT = datetime(2027, 3, 1, 19, tzinfo=UTC)


def demo_concert(figures: DemoFigures) -> dict[str, Any]:
    """The concert as `PUT /internal/v1/concerts/1` takes it: a schedule a day, all with the same seats."""
    seats = [
        {"id": number, "number": str(_in_row(number)), "price": SEAT_PRICE_POINTS} for number in _upto(figures.seats)
    ]
    sections = []
    for first in range(0, figures.seats, SECTION_SEATS):
        within = seats[first : first + SECTION_SEATS]
        rows = [
            {"name": str(start // ROW_SEATS + 1), "seats": within[start : start + ROW_SEATS]}
            for start in range(0, len(within), ROW_SEATS)
        ]
        sections.append({"name": _letters(first // SECTION_SEATS), "rows": rows})
    schedules = [
        {
            "id": number,
            "startsAt": (_FIRST_NIGHT + timedelta(days=number - 1)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "sections": sections,
        }
        for number in _upto(figures.schedules)
    ]
    return {"id": CONCERT_ID, "title": "Stagedoor Live", "venue": "Demo Hall", "room": 1, "schedules": schedules}


async def load_demo_once(settings: LocalSettings, state: StateDir, say: Callable[[str], None]) -> None:
    """Load the demo data unless this store has it. Raises ConfigError when a service refuses it."""
    # Only a digest is kept: the address of a store may hold a password. What is in memory is gone at every start.
    store = hashlib.sha256(settings.store_identity.encode()).hexdigest()
    mark, figures = state.demo_mark(), asdict(settings.demo)
    if mark is not None and mark.get("store") == store and not settings.store_url.startswith("memory:"):
        asked = {name: value for name, value in figures.items() if f"DEMO_{name.upper()}" in settings.environment}
        other = [
            f"{name} {value} (loaded: {mark.get(name)})" for name, value in asked.items() if mark.get(name) != value
        ]
        if other:
            say(f"demo data stays as first loaded, despite DEMO_*: {', '.join(other)}; make reset begins anew")
        return
    # Here, because only a first start pays the half second that the HTTP client takes to import.
    from infra.local.load import Loader  # noqa: PLC0415

    async with Loader() as loader:
        if settings.demo.schedules:
            await loader.put_concert(_url(settings, "catalog"), demo_concert(settings.demo))
        await loader.put_wallets(_url(settings, "wallet"), settings.demo.users, settings.demo.points)
    state.mark_demo({**figures, "store": store})
    say(f"demo data loaded: {figures['schedules']} schedules × {figures['seats']} seats, {figures['users']} wallets")


def _url(settings: LocalSettings, room: str) -> str:
    return f"http://127.0.0.1:{settings.ports[room]}"


def _upto(count: int) -> range:
    return range(1, count + 1)


def _in_row(seat: int) -> int:
    return (seat - 1) % ROW_SEATS + 1


def _letters(index: int) -> str:
    """0 → A, 25 → Z, 26 → AA: sections as halls name them."""
    text = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        text = chr(ord("A") + rest) + text
    return text
