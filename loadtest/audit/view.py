"""The catalog's view against the truth (I14), asked as a client asks: through the gateway.

A view is a moment behind. A seat is an offence when it is shown wrongly at two looks, and had the same owner at both:
then the view had the time between two looks, which is more than the two seconds it may take.
"""

import http.client
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import orjson

from loadtest.audit.doors.ports import Body, CannotRead
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
        seats = Check("I14", "what the catalog shows as free is what is free")
        counts = Check("I14", "as many seats as are free are told of each schedule")
        address = urlsplit(self.gateway_url)
        kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        gateway = kind(address.hostname or "", address.port, timeout=TIMEOUT_S)
        try:
            for schedule, prices in world.prices.items():
                self._check_seats(gateway, seats, world, schedule, prices)
            for document in world.documents["concerts"]:
                self._check_counts(gateway, counts, world, document.body)
        finally:
            gateway.close()
        yield seats
        yield counts

    def _check_seats(
        self, gateway: http.client.HTTPConnection, check: Check, world: World, schedule: int, prices: Iterable[int]
    ) -> None:
        info = self._asked(gateway, f"{schedule}/available-seats")["concertSeatInfo"]
        shown = {seat["id"] for seat in info["concertSeat"]} if info else set()
        for seat in prices:
            check.count += 1
            known = world.seats.get((schedule, seat))
            is_free = known is None or known.state == "free"
            if is_free != (seat in shown):
                state = f"{known.state} (n={known.n})" if known else "untouched"
                is_shown = "free" if seat in shown else "taken"
                check.offend(f"seat {seat} of schedule {schedule} is {state} and shown as {is_shown}")
        for seat in shown.difference(prices):
            check.offend(f"seat {seat} of schedule {schedule} is shown as free and was never published")

    def _check_counts(self, gateway: http.client.HTTPConnection, check: Check, world: World, concert: Body) -> None:
        told = self._asked(gateway, f"{concert['id']}/available-schedules")["concertSchedules"]
        shown = {each["id"]: each["availableSeats"] for each in told}
        for schedule, *_ in concert["schedules"]:
            taken, moves = world.taken[schedule]
            free = len(world.prices.get(schedule, {})) - taken
            # One without a free seat is not listed. With the moves, so that the sentence is another after each.
            is_shown = f"is shown with {shown.get(schedule, 0)} free seats"
            check.expect(
                free == shown.get(schedule, 0), f"schedule {schedule} {is_shown} and has {free} ({moves} moves)"
            )

    def _asked(self, gateway: http.client.HTTPConnection, below: str) -> Body:
        path = f"{urlsplit(self.gateway_url).path.rstrip('/')}/api/v1/concert/{below}"
        try:
            gateway.request("GET", path, headers={"X-Waiting-Token": self.token})
            with gateway.getresponse() as reply:
                body = reply.read()
        except (OSError, http.client.HTTPException) as error:
            raise CannotRead(f"the gateway at {self.gateway_url}: {error}") from error
        if reply.status != 200:
            raise CannotRead(f"the gateway answered {reply.status} to {path}: {body[:200].decode(errors='replace')}")
        found: Body = orjson.loads(body)
        return found
