"""How many seats of a schedule one user has, where the schedule has several blocks and none of them sees the whole.

Each hold takes a place here after its seats and before its reservation is filed. A place is given up only when its
reservation is dead, or was never filed and its seats have lapsed. So the places of a user never sum up to less than the
reservations, and the cap is exact.
"""

from collections.abc import Collection
from dataclasses import dataclass

from libs.common.storage.ports import Decision


@dataclass(frozen=True, slots=True)
class Place:
    """What one reservation counts for. `until_ms` is that of its seats."""

    reservation: str
    seat_count: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Places:
    """The places of one user in one schedule."""

    places: tuple[Place, ...] = ()


def places_id(schedule: int, user: int) -> str:
    return f"{schedule}:{user}"


def take_place(
    known: Places | None, wanted: Place, seats_max: int, gone: Collection[Place] = ()
) -> Decision[Places, tuple[Place, ...] | None]:
    """Take a place for `wanted`; `gone` are places found to be void. The result is None when it was taken, and
    otherwise names the places in the way, for the caller to find out which of them are void."""
    places = (known or Places()).places
    mine = next((place for place in places if place.reservation == wanted.reservation), wanted)
    # Of two tries of one hold the larger claim counts: too much is given back with the reservation, too little is not.
    place = Place(wanted.reservation, max(mine.seat_count, wanted.seat_count), max(mine.until_ms, wanted.until_ms))
    others = tuple(other for other in places if other.reservation != wanted.reservation and other not in gone)
    if sum(other.seat_count for other in others) + place.seat_count > seats_max:
        return Decision(others)
    after = (*others, place)
    return Decision(None, Places(after) if after != places else None)


def leave_place(known: Places | None, reservation: str) -> Decision[Places, None]:
    """Give up the place of a reservation that is dead."""
    places = (known or Places()).places
    left = tuple(place for place in places if place.reservation != reservation)
    return Decision(None, Places(left) if left != places else None)
