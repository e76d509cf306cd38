"""Clients of the public interface: what they send goes through the faulty network, what they are told is checked."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from json import dumps
from typing import Any

from libs.common.errors import DependencyDown
from libs.common.testing.app_client import Answered
from libs.common.web.admission import WAITING_TOKEN
from libs.common.web.idempotency import HEADER
from tests.simulation.invariants.answers import CHARGE, HOLD, JOIN, PAY, AnswerWatch, Sent
from tests.simulation.network import Network

TIMEOUT_S = 8.0
TRIES_MAX = 6
UNAVAILABLE = 503

KINDS = {
    ("POST", "/api/v1/token/create"): JOIN,
    ("PATCH", "/api/v1/users/charge/point"): CHARGE,
    ("POST", "/api/v1/concert/reservation"): HOLD,
    ("POST", "/api/v1/payment"): PAY,
}


class Lost(Exception):
    """No answer came: the request may or may not have been carried out."""


class Client:
    """Sends one user's requests; a `Caller` for `tests.buyer.Buyer`."""

    def __init__(self, network: Network, answers: AnswerWatch, user: int, chance: random.Random) -> None:
        self._network = network
        self._answers = answers
        self._user = user
        self._chance = chance
        self._detached: dict[asyncio.Task[None], None] = {}

    @property
    def holders(self) -> Mapping[str, tuple[int, str]]:
        """Who made each reservation that anybody was told of, and with which ticket."""
        return self._answers.holders

    def detach(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that nobody waits for."""
        task = asyncio.create_task(work)
        self._detached[task] = None
        task.add_done_callback(self._detached.pop)

    async def call(
        self, method: str, path: str, json: Any = None, *, headers: Mapping[str, str] | None = None, raw: bytes = b""
    ) -> Answered:
        """One request, sent once. Raises Lost."""
        body = raw if json is None else dumps(json).encode()
        given = {"Content-Type": "application/json", **(headers or {})}
        sent = Sent(
            self._user,
            method,
            path,
            given.get(WAITING_TOKEN, ""),
            KINDS.get((method, path), ""),
            given.get(HEADER, ""),
            body,
        )
        sent_s = self._answers.sending(sent)
        try:
            reply, gateway = await self._network.send("gateway", method, path, given, body, TIMEOUT_S)
        except DependencyDown as down:
            raise Lost(str(down)) from None
        answered = Answered(reply.status, reply.headers, reply.body)
        self._answers.answered(sent, answered, f"{gateway.name}/{gateway.life}", sent_s)
        return answered

    async def surely(
        self, send: Callable[[], Awaitable[Answered]], pause: Callable[[float], Awaitable[None]]
    ) -> Answered | None:
        """The answer of a request that may be repeated, tried again while there is none; None when patience ends."""
        for number in range(TRIES_MAX):
            try:
                reply = await send()
            except Lost:
                reply = None
            if reply is not None and not _comes_later(reply):
                return reply
            await pause(self._chance.uniform(0.2, 1.0 + number))
        return None


def _comes_later(reply: Answered) -> bool:
    return reply.status in (UNAVAILABLE, 429) or (reply.status == 409 and reply.code == "REQUEST_IN_PROGRESS")
