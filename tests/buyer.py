"""A buyer, as tests play one: the calls of the public contract, by name. Works over HTTP and in one loop alike."""

from collections.abc import Mapping
from typing import Any, Protocol

from libs.common.testing.app_client import Answered

STATIC_TOKEN = "test-token"
SEAT_PRICE = 10_000


class Caller(Protocol):
    """Sends one request to the gateway."""

    async def call(
        self, method: str, path: str, json: Any = None, *, headers: Mapping[str, str] | None = None, raw: bytes = b""
    ) -> Answered: ...


class Buyer:
    """One user with one ticket; `token` is replaced by joining the line."""

    def __init__(self, caller: Caller, user: int = 1, token: str = STATIC_TOKEN) -> None:
        self.caller = caller
        self.user = user
        self.token = token

    async def call(
        self, method: str, path: str, json: Any = None, *, key: str | None = None, raw: bytes = b""
    ) -> Answered:
        """Any request with this buyer's ticket."""
        headers = {"X-Waiting-Token": self.token, **({"Idempotency-Key": key} if key else {})}
        return await self.caller.call(method, f"/api/v1{path}", json, headers=headers, raw=raw)

    async def join(self, room: int = 1) -> Answered:
        """Take a place in line; the ticket is used from now on."""
        reply = await self.caller.call("POST", "/api/v1/token/create", {"userId": self.user, "room": room})
        if reply.status == 201:
            self.token = reply.json["uuid"]
        return reply

    async def position(self) -> int:
        reply = await self.call("GET", "/token")
        assert reply.status == 200, reply.body
        position: int = reply.json["waitingQueueWithPositionResult"]["position"]
        return position

    async def leave(self) -> Answered:
        return await self.call("DELETE", "/token")

    async def schedules_reply(self, concert: int = 1) -> Answered:
        return await self.call("GET", f"/concert/{concert}/available-schedules")

    async def schedules(self, concert: int = 1) -> list[Any]:
        reply = await self.schedules_reply(concert)
        assert reply.status == 200, reply.body
        schedules: list[Any] = reply.json["concertSchedules"]
        return schedules

    async def seats(self, schedule: int) -> list[int]:
        """Ids of the seats that are shown as available."""
        reply = await self.call("GET", f"/concert/{schedule}/available-seats")
        assert reply.status == 200, reply.body
        info = reply.json["concertSeatInfo"]
        return [seat["id"] for seat in info["concertSeat"]] if info else []

    async def hold(self, schedule: int, seats: list[int], key: str | None = None) -> Answered:
        body = {
            "userId": self.user,
            "concertScheduleId": schedule,
            "seatIds": seats,
            "dateTime": "2026-01-01T00:00:00Z",
        }
        return await self.call("POST", "/concert/reservation", body, key=key)

    async def reservation(self, id_: str) -> Answered:
        return await self.call("GET", f"/concert/reservation/{id_}")

    async def status_of(self, reservation: str) -> str:
        """The status of a reservation of this buyer."""
        reply = await self.reservation(reservation)
        assert reply.status == 200, reply.body
        return str(reply.json["status"])

    async def cancel(self, id_: str) -> Answered:
        return await self.call("DELETE", f"/concert/reservation/{id_}")

    async def pay(self, reservation: str, key: str | None = None) -> Answered:
        body = {"userId": self.user, "reservationId": reservation, "token": self.token}
        return await self.call("POST", "/payment", body, key=key)

    async def payment(self, id_: str) -> Answered:
        return await self.call("GET", f"/payment/{id_}")

    async def charge(self, point: int, key: str | None = None) -> Answered:
        return await self.call("PATCH", "/users/charge/point", {"userId": self.user, "point": point}, key=key)

    async def balance(self) -> int:
        reply = await self.call("GET", f"/users/{self.user}/wallet")
        assert reply.status == 200, reply.body
        amount: int = reply.json["amount"]
        return amount

    async def debits(self) -> list[Any]:
        """The `pay` entries of this user's ledger, newest first."""
        reply = await self.call("GET", f"/users/{self.user}/wallet/entries?limit=200")
        return [entry for entry in reply.json["entries"] if entry["kind"] == "pay"]
