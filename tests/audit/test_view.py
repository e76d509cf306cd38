"""The catalog's view, from a gateway that says what a test wants it to say."""

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
TAKEN = {1: {1, 2, 8, 9}, 2: {1, 2, 3}, 3: set()}
"""What the sale has left of its schedules of 20 seats."""


class Gateway(ThreadingHTTPServer):
    """Shows every seat but those in `taken`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.taken = {schedule: set(seats) for schedule, seats in TAKEN.items()}
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Answers(BaseHTTPRequestHandler):
    server: Gateway

    def do_GET(self) -> None:
        if self.headers["X-Waiting-Token"] != TOKEN:
            self.send_error(401)
            return
        schedule = int(self.path.split("/")[4])
        free = [{"id": seat} for seat in range(1, 21) if seat not in self.server.taken[schedule]]
        body = json.dumps({"concertSeatInfo": {"concertSeat": free} if free else []}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

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
    (check,) = View(gateway.url, TOKEN).checks(world)
    assert check.count == 60
    return list(check.offences)


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


def test_a_gateway_that_does_not_answer_so_is_named(gateway: Gateway, world: World) -> None:
    with pytest.raises(CannotRead, match="answered 401 to /api/v1/concert/1/available-seats"):
        list(View(gateway.url, "unknown").checks(world))
