"""The catalog's view, from a gateway that says what a test wants it to say."""

import http.client
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from loadtest.audit.doors.ports import CannotRead, Heard
from loadtest.audit.doors.sqlite import SqliteDoor
from loadtest.audit.view import View
from loadtest.audit.world import READ, Reader, World
from tests.audit.scene import COLLECTIONS, Ground

TOKEN = "always-inside"
PREFIX = "/tickets"
TAKEN = {1: {1, 2, 8, 9}, 2: {1, 2, 3}, 3: set()}
"""What the sale has left of its schedules of 20 seats."""


class Gateway(ThreadingHTTPServer):
    """Shows every seat but those in `taken`, those that are `invented` too, and counts all but those in `counted`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.taken = {schedule: set(seats) for schedule, seats in TAKEN.items()}
        self.counted = {schedule: set(seats) for schedule, seats in TAKEN.items()}
        self.invented: list[dict[str, int]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Answers(BaseHTTPRequestHandler):
    server: Gateway

    def do_GET(self) -> None:
        self.path = self.path.removeprefix(PREFIX)
        if self.headers["X-Waiting-Token"] != TOKEN:
            self.send_error(401)
            return
        told = self._seats() if self.path.endswith("/available-seats") else self._schedules()
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _seats(self) -> dict[str, object]:
        schedule = int(self.path.split("/")[4])
        free = [{"id": seat} for seat in range(1, 21) if seat not in self.server.taken[schedule]]
        return {"concertSeatInfo": {"concertSeat": free + self.server.invented} if free else []}

    def _schedules(self) -> dict[str, object]:
        left = {schedule: 20 - len(taken) for schedule, taken in self.server.counted.items()}
        return {"concertSchedules": [{"id": id_, "availableSeats": free} for id_, free in left.items() if free]}

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class calls it that)
        """Say nothing."""


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def world(ground: Ground) -> World:
    doors = {service: SqliteDoor(ground.folder / f"{service}.db") for service in COLLECTIONS}
    assert set(doors) == set(READ)
    world = Reader(dict(doors), None).read()
    world.heard = Heard()
    return world


def offences(gateway: Gateway, world: World) -> list[str]:
    seats, counts = View(gateway.url, TOKEN).checks(world)
    assert (seats.count, counts.count) == (60, 3)
    return [*seats.offences, *counts.offences]


def test_i14_a_view_that_shows_what_is_free_is_right(gateway: Gateway, world: World) -> None:
    assert offences(gateway, world) == []


def test_i14_a_sold_seat_that_is_shown_and_a_free_one_that_is_not(gateway: Gateway, world: World) -> None:
    gateway.taken[1] = {2, 7, 8, 9}
    gateway.taken[3] = set(range(1, 21))
    found = offences(gateway, world)
    assert "seat 1 of schedule 1 is sold (n=1) and shown as free" in found
    assert "seat 7 of schedule 1 is free (n=2) and shown as taken" in found
    assert "seat 20 of schedule 3 is untouched and shown as taken" in found
    assert len(found) == 22


def test_i14_a_seat_that_is_shown_and_was_never_published(gateway: Gateway, world: World) -> None:
    gateway.invented.append({"id": 777})
    assert "seat 777 of schedule 2 is shown as free and was never published" in offences(gateway, world)


def test_i14_a_wrong_count_of_free_seats(gateway: Gateway, world: World) -> None:
    gateway.counted[1] = {1}
    gateway.counted[2] = set(range(1, 21))
    told = offences(gateway, world)
    assert told[0].startswith("schedule 1 is shown with 19 free seats and has 16 (")
    assert told[1].startswith("schedule 2 is shown with 0 free seats and has 17 (")


def test_a_gateway_that_does_not_answer_so_is_named(gateway: Gateway, world: World) -> None:
    with pytest.raises(CannotRead, match="answered 401 to /api/v1/concert/1/available-seats"):
        list(View(gateway.url, "unknown").checks(world))


def test_a_gateway_below_a_path_or_behind_tls_is_asked_there(
    gateway: Gateway, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [list(check.offences) for check in View(f"{gateway.url}{PREFIX}/", TOKEN).checks(world)] == [[], []]
    opened: list[tuple[str, int | None]] = []

    def open_tls(host: str, port: int | None, **_: float) -> http.client.HTTPConnection:
        opened.append((host, port))
        return http.client.HTTPConnection("127.0.0.1", gateway.server_port)

    monkeypatch.setattr(http.client, "HTTPSConnection", open_tls)
    list(View("https://tickets.example", TOKEN).checks(world))
    assert opened == [("tickets.example", None)]
