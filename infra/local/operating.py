"""What an operator does to a sale that runs: see and change its rooms, give a buyer the points back.

Over the internal routes of queue and reservation, which log who did it and why; so nothing is sent without either.
`verbs` are part of `python -m infra.local`; where there is no supervisor, `python -m infra.local.operating` takes the
addresses from QUEUE_URL and RESERVATION_URL.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

import typer

from infra.local.problem import told
from libs.common.errors import ConfigError

CALL_S = 10.0
AT_ONCE = "none"
"""In place of a time: the room has no opening any more."""

_ROOM_COLUMNS = {
    "room": "id",
    "state": "state",
    "capacity": "capacity",
    "inside": "openSessions",
    "offered": "unclaimed",
    "returning": "returning",
    "waiting": "waiting",
    "let in/s": "rate",
    "opens at": "opensAt",
    "leader": "leader",
}

Address = Callable[[str], str]
"""Gives the value of a setting such as QUEUE_URL: one address, or several with commas between."""

Who = Annotated[str, typer.Option(help="who asks for it; logged")]
Why = Annotated[str, typer.Option(help="the reason, one sentence; logged")]


def verbs(address: Address) -> typer.Typer:
    """The operator's verbs, for services that are where `address` says."""
    app = typer.Typer(help="See and change a sale that runs.", no_args_is_help=True)

    @app.command()
    def rooms(as_json: Annotated[bool, typer.Option("--json", help="for machines")] = False) -> None:
        """Show every waiting room as it stands."""
        found = _call(address("QUEUE_URL"), "GET", "/internal/v1/rooms")["rooms"]
        print(json.dumps(found) if as_json else _table(found))

    @app.command()
    def room(
        room: Annotated[int, typer.Argument(help="its number")],
        who: Who = "",
        why: Why = "",
        state: Annotated[str, typer.Option(help="open, paused or closed")] = "",
        capacity: Annotated[str, typer.Option(help="people inside at a time")] = "",
        opens_at: Annotated[str, typer.Option(help=f"a time such as 2027-01-15T09:00:00Z, or {AT_ONCE}")] = "",
    ) -> None:
        """Open, pause, close or resize a room; what is not named stays."""
        body: dict[str, Any] = _reason(who, why)
        if state:
            body["state"] = state
        if capacity:
            body["capacity"] = _whole(capacity)
        if opens_at:
            body["opensAt"] = None if opens_at == AT_ONCE else opens_at
        if len(body) == 2:
            raise ConfigError("STATE, CAPACITY, OPENS_AT: name at least one, or nothing changes")
        print(_table([_call(address("QUEUE_URL"), "PATCH", f"/internal/v1/rooms/{room}", body)]))

    @app.command()
    def refund(
        reservation: Annotated[str, typer.Argument(help="its id")],
        who: Who = "",
        why: Why = "",
    ) -> None:
        """Give the points of a paid reservation back, and its seats to others; may be repeated."""
        path = f"/internal/v1/reservations/{quote(reservation, safe='')}/refund"
        now = _call(address("RESERVATION_URL"), "POST", path, _reason(who, why))
        print(f"reservation {now['id']} {now['status']}: {now['amount']} points go back to user {now['userId']}")

    return app


def _reason(who: str, why: str) -> dict[str, Any]:
    for setting, given in (("WHO", who), ("WHY", why)):
        if not given.strip():
            raise ConfigError(f"{setting}: nothing is changed without it; it goes to the service's log")
    return {"who": who.strip(), "why": why.strip()}


def _whole(number: str) -> int:
    try:
        return int(number)
    except ValueError:
        raise ConfigError(f"CAPACITY: {number!r} is not a number of people") from None


def _call(addresses: str, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """The answer of the first copy that gives one. Every call here may be repeated, so a lost reply does no harm."""
    # The verbs that start the system need not pay for it.
    from urllib.error import HTTPError  # noqa: PLC0415
    from urllib.request import ProxyHandler, Request, build_opener  # noqa: PLC0415

    # Services are near: a proxy that the environment names for the world outside does not know them.
    direct = build_opener(ProxyHandler({}))
    reasons = []
    for address in addresses.split(","):
        if urlsplit(address).scheme not in ("http", "https"):
            raise ConfigError(f"{address}: give an address that begins with http:// or https://")
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{address.rstrip('/')}{path}", data, {"content-type": "application/json"}, method=method)  # noqa: S310 (checked above)
        try:
            with direct.open(request, timeout=CALL_S) as answer:
                return json.load(answer)
        except HTTPError as refused:
            with refused:
                said = told(refused.read().decode(errors="replace"))
            raise ConfigError(f"{method} {path}: {refused.code} {said}") from None
        except (OSError, ValueError) as why:
            reasons.append(f"{address}: {getattr(why, 'reason', why)}")
    raise ConfigError(f"{method} {path}: no copy answers ({'; '.join(reasons)})")


def _table(rooms: list[dict[str, Any]]) -> str:
    lines = [list(_ROOM_COLUMNS)]
    for room in rooms:
        shown = {**room, "waiting": room["issued"] - room["watermark"], "rate": f"{room['rate']:.1f}"}
        lines.append(["–" if shown[name] is None else str(shown[name]) for name in _ROOM_COLUMNS.values()])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _from_environment(setting: str) -> str:
    given = os.environ.get(setting, "").strip()
    if not given:
        raise ConfigError(f"{setting}: not set; it says where the service is")
    return given


if __name__ == "__main__":
    try:
        verbs(_from_environment)()
    except ConfigError as sentence:
        print(sentence, file=sys.stderr)
        sys.exit(1)
