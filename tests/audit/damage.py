"""Ways to damage a sale that several tests have."""

from collections.abc import Callable
from typing import Any

from tests.audit.scene import Ground

Body = dict[str, Any]


def row(body: Body, seat: int) -> list[Any]:
    """A seat of a block: `[seat, n, state, owner, user, until_ms]`."""
    found: list[Any] = next(each for each in body["seats"] if each[0] == seat)
    return found


def block(ground: Ground, change: Callable[[Body], object], schedule: int = 1) -> None:
    ground.edit("blocks", f"{schedule}:0", change)


def reservation(ground: Ground, name: str, **fields: Any) -> str:
    """Overwrite fields of a reservation; its id."""
    id_ = ground.kept.reservations[name]
    ground.edit("reservations", id_, lambda body: body.update(fields))
    return id_


def entry(ground: Ground, user: int, place: int, **fields: Any) -> str:
    """Overwrite fields of the entry at a place of a user's ledger (-1: the last); its id."""
    seq = ground.entries(user)[place]["seq"]
    ground.edit("entries", f"{user}:{seq}", lambda body: body.update(fields))
    return f"{user}:{seq}"
