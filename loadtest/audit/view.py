"""The catalog's view against the truth (I14), asked as a client asks: through the gateway.

A view is a moment behind. A seat is an offence when it is shown wrongly at two looks, and had the same owner at both:
then the view had the time between two looks, which is more than the two seconds it may take.
"""

import http.client
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import orjson

from loadtest.audit.doors.ports import CannotRead
from loadtest.audit.verdict import Check
from loadtest.audit.world import World

TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class View:
    """`token` is one that is always inside."""

    gateway_url: str
    token: str

    def checks(self, world: World) -> Iterator[Check]:
        """Raises CannotRead."""
        check = Check("I14", "what the catalog shows as free is what is free")
        address = urlsplit(self.gateway_url)
        gateway = http.client.HTTPConnection(address.hostname or "", address.port or 80, timeout=TIMEOUT_S)
        try:
            for schedule, prices in world.prices.items():
                shown = self._shown(gateway, schedule)
                for seat in prices:
                    check.count += 1
                    known = world.seats.get((schedule, seat))
                    is_free = known is None or known.state == "free"
                    if is_free != (seat in shown):
                        state = f"{known.state} (n={known.n})" if known else "untouched"
                        is_shown = "free" if seat in shown else "taken"
                        check.offend(f"seat {seat} of schedule {schedule} is {state} and shown as {is_shown}")
        finally:
            gateway.close()
        yield check

    def _shown(self, gateway: http.client.HTTPConnection, schedule: int) -> set[int]:
        path = f"/api/v1/concert/{schedule}/available-seats"
        try:
            gateway.request("GET", path, headers={"X-Waiting-Token": self.token})
            with gateway.getresponse() as reply:
                body = reply.read()
        except (OSError, http.client.HTTPException) as error:
            raise CannotRead(f"the gateway at {self.gateway_url}: {error}") from error
        if reply.status != 200:
            raise CannotRead(f"the gateway answered {reply.status} to {path}: {body[:200].decode(errors='replace')}")
        info = orjson.loads(body)["concertSeatInfo"]
        return {seat["id"] for seat in info["concertSeat"]} if info else set()
