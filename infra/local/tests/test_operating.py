"""An operator's verbs against a server that plays queue and reservation: what is sent, what is refused before."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from infra.local.operating import verbs
from libs.common.contract.queue import RoomPatch, RoomView
from libs.common.contract.reservation import RefundRequest
from libs.common.errors import ConfigError

ROOM = RoomView(
    id=1, state="open", capacity=500, watermark=700, issued=950, rate=12.34, fence=1, tick=9,
    open_sessions=480, unclaimed=20, returning=0, leader="q1",
)  # fmt: skip
REFUNDED = {"id": "r-1", "status": "REFUNDING", "amount": 20_000, "userId": 7}
REFUSAL = {"detail": "Some fields are wrong.", "errors": [{"pointer": "/capacity", "detail": "too many"}]}


class Service(BaseHTTPRequestHandler):
    """Notes every request; `refusals` are given first."""

    asked: list[tuple[str, str, bytes]]
    refusals: list[int]

    def _answer(self) -> None:
        sent = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.asked.append((self.command, self.path, sent))
        room = ROOM.model_dump(by_alias=True)
        body: Any = REFUNDED if "refund" in self.path else {"rooms": [room]} if self.command == "GET" else room
        status = self.refusals.pop() if self.refusals else 200
        data = json.dumps(body if status == 200 else REFUSAL).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PATCH = do_POST = _answer  # noqa: N815 (the library's names for them)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the library's name for it)
        """Tests read what was asked, not a log."""


@pytest.fixture
def service() -> Iterator[str]:
    Service.asked, Service.refusals = [], []
    with HTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(5)


def run(address: str, *words: str) -> None:
    verbs(lambda _: address)(list(words), standalone_mode=False)


def test_rooms_are_shown_a_line_each(service: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(service, "rooms")
    head, line = capsys.readouterr().out.splitlines()
    assert head.split("  ")[0] == "room"
    assert line.split() == ["1", "open", "500", "480", "20", "0", "250", "12.3", "–", "q1"]


def test_a_change_sends_what_is_named_and_who_and_why(service: str) -> None:
    run(service, "room", "3", "--who", "Kim", "--why", 'it\'s "full"', "--state", "paused", "--capacity", "0")
    run(service, "room", "3", "--who", "Kim", "--why", "opens", "--opens-at", "2027-01-15T09:00:00Z")
    run(service, "room", "3", "--who", "Kim", "--why", "opens", "--opens-at", "none")
    assert [(method, path) for method, path, _ in Service.asked] == [("PATCH", "/internal/v1/rooms/3")] * 3
    first, second, third = (RoomPatch.model_validate_json(sent) for _, _, sent in Service.asked)
    assert first == RoomPatch(who="Kim", why='it\'s "full"', state="paused", capacity=0)
    assert second == RoomPatch(who="Kim", why="opens", opens_at="2027-01-15T09:00:00Z")
    assert "opens_at" in third.model_fields_set
    assert third.opens_at is None


def test_a_refund_names_the_reservation_and_who_and_why(service: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(service, "refund", "r-1", "--who", "Kim", "--why", "the show is off")
    ((method, path, sent),) = Service.asked
    assert (method, path) == ("POST", "/internal/v1/reservations/r-1/refund")
    assert RefundRequest.model_validate_json(sent) == RefundRequest(who="Kim", why="the show is off")
    assert capsys.readouterr().out == "reservation r-1 REFUNDING: 20000 points go back to user 7\n"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("room", "1", "--why", "because", "--state", "open"), "WHO"),
        (("room", "1", "--who", "Kim", "--why", " ", "--state", "open"), "WHY"),
        (("refund", "r-1", "--why", "because"), "WHO"),
        (("refund", "r-1", "--who", "Kim"), "WHY"),
        (("room", "1", "--who", "Kim", "--why", "because"), "STATE, CAPACITY, OPENS_AT"),
        (("room", "1", "--who", "Kim", "--why", "because", "--capacity", "many"), "CAPACITY"),
    ],
)
def test_nothing_is_sent_without_who_why_and_a_change(service: str, words: tuple[str, ...], named: str) -> None:
    with pytest.raises(ConfigError, match=f"^{named}"):
        run(service, *words)
    assert Service.asked == []


def test_a_refusal_is_told_in_the_services_words(service: str) -> None:
    Service.refusals = [422]
    with pytest.raises(ConfigError, match=r"rooms/1: 422 Some fields are wrong\.; /capacity: too many"):
        run(service, "room", "1", "--who", "Kim", "--why", "because", "--capacity", "9999999")


def test_a_copy_that_is_gone_is_passed_over(service: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(f"http://127.0.0.1:1,{service}", "rooms")
    assert "q1" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"no copy answers .*127\.0\.0\.1:1"):
        run("http://127.0.0.1:1", "rooms")
    with pytest.raises(ConfigError, match="begins with http"):
        run("unix:///queue.sock", "rooms")


def test_no_proxy_is_asked_for_a_service(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    run(service, "rooms")
    assert [path for _, path, _ in Service.asked] == ["/internal/v1/rooms"]
