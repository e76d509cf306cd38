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
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import orjson

from infra.local.settings import DEMO_TOKEN
from libs.common.errors import ConfigError
from loadtest.fresh_system import ROOT

PAUSE_S = 0.1
CALL_S = 5.0
AUDIT_MORE_S = 90.0
OFFENCES = 1
PROBING_USERS = count(2_000_001 + int(time.time()) % 1_000_000)
"""Nobody else is one of them; each gets points of its own, and one seat. A system that lives on meets others in the
next series, since nobody may own every seat of a schedule."""

PRICE_MAX = 1_000_000
ON_SALE_S = 15.0
OK, CREATED, ACCEPTED = 200, 201, 202


class NotSteady(Exception):
    """The steady state does not hold; the sentence says what was found instead."""


class NotYet(Exception):
    """A try did not come to its end; what was asked, and the answer. Empty: the time was up."""


def is_ready(within_s: float = 15.0) -> bool:
    """Every gateway says it is ready within the time."""
    for url in gateways():
        _eventually(partial(_is_ready, url), within_s, f"{url}/readyz answering 200")
    return True


def free_seats(schedules: int) -> set[tuple[int, int]]:
    """What is left of the first schedules: (schedule, seat). Raises NotSteady where that is not told."""
    url = gateways()[0]
    found: set[tuple[int, int]] = set()

    def look(schedule: int, until_s: float) -> None:
        told = _asked(url, until_s, "GET", f"/concert/{schedule}/available-seats")["concertSeatInfo"]
        found.update((schedule, seat["id"]) for seat in (told["concertSeat"] if told else ()))

    for schedule in range(1, schedules + 1):
        _eventually(partial(look, schedule), ON_SALE_S, f"{url} saying which seats of schedule {schedule} are free")
    return found


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
    """What the auditor says of the system, as JSON. Raises NotSteady when it cannot read it.

    Of a system elsewhere it is told only what it may read: BACKENDS would have it look for a Kafka on this machine.
    """
    options = ["--json", "--settle-s", str(settle_s)]
    options += ["--history", history] if history else []
    options += ["--live", live] if live else []
    environment = {**os.environ, "BACKENDS": "", "STATIC_TOKENS": token()}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "loadtest.audit", *options],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=settle_s + AUDIT_MORE_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as late:
        raise NotSteady(f"the audit took longer than {late.timeout:g} s") from None
    if done.returncode > OFFENCES or not done.stdout:  # what ends by a fault of its own has the same 1
        raise NotSteady(f"the audit could not be made: {done.stderr.strip()[-300:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _can_audit() -> bool:
    return not os.environ.get("TARGET") or bool(os.environ.get("STORE_URL") or os.environ.get("STATE_DIR"))


def gateways() -> list[str]:
    """Base URLs; without TARGET that of a system on this machine. Raises ConfigError for what is none."""
    named = os.environ.get("TARGET") or f"http://127.0.0.1:{os.environ.get('PORT') or 8080}"
    urls = [url.strip().rstrip("/") for url in named.split(",")]
    for url in urls:
        if not url.startswith(("http://", "https://")) or not urlsplit(url).hostname:
            raise ConfigError(f"TARGET: expected base URLs such as https://tickets.example (given: {url!r})")
    return urls


def _eventually(attempt: Callable[[float], None], within_s: float, what: str) -> None:
    """`attempt` is given the moment (monotonic) up to which it may take, and raises NotYet; what comes later counts for
    nothing."""
    give_up_s = time.monotonic() + within_s
    last = ""
    while True:
        try:
            attempt(give_up_s)
        except NotYet as why:
            last = str(why) or last
        else:
            if time.monotonic() <= give_up_s:
                return
        if time.monotonic() > give_up_s:
            raise NotSteady(f"{what}: not within {within_s:g} s{last and f'; the last answer was {last}'}")
        time.sleep(PAUSE_S)


def _buys(url: str, user: int, until_s: float) -> None:
    """One try. Raises NotYet with the step that was refused."""
    ask = partial(_asked, url, until_s)
    ask("PATCH", "/users/charge/point", {"userId": user, "point": PRICE_MAX})
    schedule, seat = _free_place(ask)
    body = {"userId": user, "concertScheduleId": schedule, "seatIds": [seat], "dateTime": "2026-01-01T00:00:00Z"}
    held = ask("POST", "/concert/reservation", body)
    status, paid = _send(
        url, until_s, "POST", "/payment", {"userId": user, "reservationId": held["id"], "token": token()}
    )
    told = paid
    while status == ACCEPTED and time.monotonic() < until_s:
        time.sleep(PAUSE_S)
        asked, told = _send(url, until_s, "GET", f"/payment/{paid['id']}")
        if asked == OK:
            told = told["status"]
            if told == "COMPLETED":
                return
    if status != OK:
        raise NotYet(f"{told} to the payment" if told else "")


def _free_place(ask: Callable[..., Any]) -> tuple[int, int]:
    """A seat that is shown as free in the middle of the sale: buyers come from its beginning, rivals at its end."""
    schedules = ask("GET", "/concert/1/available-schedules")["concertSchedules"]
    if not schedules:
        raise NotYet("that concert 1 is sold out")
    schedule = schedules[len(schedules) * 3 // 4]["id"]
    shown = ask("GET", f"/concert/{schedule}/available-seats")["concertSeatInfo"]
    if not shown:
        raise NotYet(f"that schedule {schedule} is sold out")
    return schedule, shown["concertSeat"][-1]["id"]


def token() -> str:
    """A ticket that is always inside."""
    return os.environ.get("TOKEN") or DEMO_TOKEN


def _is_ready(url: str, until_s: float) -> None:
    status, told = _call(Request(f"{url}/readyz"), until_s)  # noqa: S310 (whatever TARGET names)
    if status != OK:
        raise NotYet(told or "")


def _asked(url: str, until_s: float, method: str, path: str, body: Any = None) -> Any:
    """The JSON of an answer. Raises NotYet for a refusal, and for none."""
    status, told = _send(url, until_s, method, path, body)
    if status not in (OK, CREATED):
        raise NotYet(f"{told} to {method} {path}" if told else "")
    return told


def _send(url: str, until_s: float, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    data = None if body is None else orjson.dumps(body)
    headers = {"Content-Type": "application/json", "X-Waiting-Token": token()}
    return _call(Request(f"{url}/api/v1{path}", data, headers, method=method), until_s)  # noqa: S310 (the same)


def _call(request: Request, until_s: float) -> tuple[int, Any]:
    """Status and JSON; of a refusal status and code; 0 and why where nothing came back, or nothing where no time was
    left."""
    left_s = min(CALL_S, until_s - time.monotonic())
    if left_s <= 0:
        return 0, ""
    try:
        with urlopen(request, timeout=left_s) as answer:  # noqa: S310 (the same)
            return answer.status, orjson.loads(answer.read())
    except HTTPError as refused:
        with refused:
            return refused.code, f"{refused.code} {_code(refused.read())}".rstrip()
    except orjson.JSONDecodeError:
        return 0, "not JSON"
    except (OSError, HTTPException) as why:
        return 0, str(why) or type(why).__name__


def _code(body: bytes) -> str:
    """Of a problem; empty for the page of somebody else's proxy."""
    try:
        return str(orjson.loads(body)["code"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ""
