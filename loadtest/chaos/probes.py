"""What an experiment asks a system: the probes of the steady state. Each returns True, or fails with what it found.

They find the system by TARGET and STATE_DIR, which a run sets for its own; see `loadtest/chaos/target.py`.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from http.client import HTTPException
from itertools import count
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import orjson

from infra.local.settings import DEMO_TOKEN
from loadtest.fresh_system import ROOT

PAUSE_S = 0.1
CALL_S = 5.0
AUDIT_MORE_S = 90.0
OFFENCES = 1
PROBING_USERS = count(2_000_001)
"""Nobody else is one of them; each gets points of its own, and one seat."""

PRICE_MAX = 1_000_000
Send = Callable[..., tuple[int, Any]]


class NotSteady(Exception):
    """The steady state does not hold; the sentence says what was found instead."""


def is_ready(within_s: float = 15.0) -> bool:
    """Every gateway says it is ready within the time."""
    for url in gateways():
        _eventually(partial(_is_ready, url), within_s, f"{url}/readyz answering 200")
    return True


def purchase_works(within_s: float = 5.0) -> bool:
    """Somebody with points of their own has held a free seat and paid for it within the time, tries that failed
    included."""
    user, url = next(PROBING_USERS), gateways()[0]
    _eventually(partial(_buys, url, user), within_s, "a purchase")
    return True


def audit_is_clean(settle_s: float = 0.0, untrue: Mapping[str, str] | None = None) -> bool:
    """The auditor finds no offence in the system as it runs; claims that are keys of `untrue` do not count."""
    if not _can_audit():
        return True
    found = audit(settle_s=settle_s)
    wrong = [check for check in found["checks"] if check["offences"] and check["claim"] not in (untrue or {})]
    if wrong:
        raise NotSteady("; ".join(f"{check['invariant']} {check['named'][:2]}" for check in wrong))
    return True


def audit(*, settle_s: float, history: str = "", live: str = "") -> dict[str, Any]:
    """What the auditor says of the system, as JSON. Raises NotSteady when it cannot read it."""
    options = ["--json", "--settle-s", str(settle_s)]
    options += ["--history", history] if history else []
    options += ["--live", live] if live else []
    try:
        done = subprocess.run(
            [sys.executable, "-m", "loadtest.audit", *options],
            cwd=ROOT, capture_output=True, text=True, timeout=settle_s + AUDIT_MORE_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as late:
        raise NotSteady(f"the audit took longer than {late.timeout:g} s") from None
    if done.returncode > OFFENCES:
        raise NotSteady(f"the audit could not be made: {done.stderr.strip()[-300:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _can_audit() -> bool:
    return not os.environ.get("TARGET") or bool(os.environ.get("STORE_URL") or os.environ.get("STATE_DIR"))


def gateways() -> list[str]:
    """Base URLs; without TARGET that of a system on this machine."""
    named = os.environ.get("TARGET") or f"http://127.0.0.1:{os.environ.get('PORT') or 8080}"
    return [url.strip().rstrip("/") for url in named.split(",")]


def _eventually(holds: Callable[[float], bool], within_s: float, what: str) -> None:
    """`holds` is given the moment (monotonic) up to which it may take; what comes later counts for nothing."""
    give_up_s = time.monotonic() + within_s
    while not holds(give_up_s) or time.monotonic() > give_up_s:
        if time.monotonic() > give_up_s:
            raise NotSteady(f"{what}: not within {within_s:g} s")
        time.sleep(PAUSE_S)


def _buys(url: str, user: int, until_s: float) -> bool:
    """One try; False when any step was refused for now."""
    send = partial(_send, url, until_s)
    if send("PATCH", "/users/charge/point", {"userId": user, "point": PRICE_MAX})[0] != 200:
        return False
    place = _free_place(send)
    if place is None:
        return False
    schedule, seat = place
    body = {"userId": user, "concertScheduleId": schedule, "seatIds": [seat], "dateTime": "2026-01-01T00:00:00Z"}
    status, held = send("POST", "/concert/reservation", body)
    if status != 201:
        return False
    status, paid = send("POST", "/payment", {"userId": user, "reservationId": held["id"], "token": token()})
    while status == 202 and time.monotonic() < until_s:
        time.sleep(PAUSE_S)
        asked, told = send("GET", f"/payment/{paid['id']}")
        if asked == 200 and told["status"] == "COMPLETED":
            return True
    return status == 200


def _free_place(send: Send) -> tuple[int, int] | None:
    """A seat that is shown as free in the middle of the sale: buyers come from its beginning, rivals at its end."""
    status, told = send("GET", "/concert/1/available-schedules")
    if status != 200 or not told["concertSchedules"]:
        return None
    schedules = told["concertSchedules"]
    schedule = schedules[len(schedules) * 3 // 4]["id"]
    status, told = send("GET", f"/concert/{schedule}/available-seats")
    if status != 200 or not told["concertSeatInfo"]:
        return None
    return schedule, told["concertSeatInfo"]["concertSeat"][-1]["id"]


def token() -> str:
    """A ticket that is always inside."""
    return os.environ.get("TOKEN") or DEMO_TOKEN


def _is_ready(url: str, until_s: float) -> bool:
    return _call(Request(f"{url}/readyz"), until_s)[0] == 200  # noqa: S310 (whatever TARGET names)


def _send(url: str, until_s: float, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    data = None if body is None else orjson.dumps(body)
    headers = {"Content-Type": "application/json", "X-Waiting-Token": token()}
    return _call(Request(f"{url}/api/v1{path}", data, headers, method=method), until_s)  # noqa: S310 (the same)


def _call(request: Request, until_s: float) -> tuple[int, Any]:
    """Status and JSON; 0 where nothing came back in time."""
    left_s = min(CALL_S, until_s - time.monotonic())
    if left_s <= 0:
        return 0, None
    try:
        with urlopen(request, timeout=left_s) as answer:  # noqa: S310 (the same)
            return answer.status, orjson.loads(answer.read())
    except HTTPError as refused:
        with refused:
            return refused.code, None
    except (URLError, OSError, HTTPException, orjson.JSONDecodeError):
        return 0, None
