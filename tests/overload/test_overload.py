"""A few seconds of far too much: what `make overload` measures for a minute, with bounds that hold on a busy machine.

How fast and how much is left to the command, which has the machine to itself. Here it is about who is refused and how,
and that nothing is lost by it.
"""

import asyncio
import math
from contextlib import suppress

import pytest
import uvloop

from loadtest.overload.course import Course, Outcome, run
from loadtest.overload.figures import goodput_per_s, refused_shares, seconds_until_normal
from loadtest.overload.mix import HOLD, PAY, Mix, Shop
from loadtest.overload.offering import FAILED, REFUSED, SERVED, Offering, Record
from loadtest.overload.report import in_order, only_refusals
from loadtest.raw_client import RawClient
from tests.e2e.system import RunningSystem

SHOP = Shop(schedules=40)
SAMPLE = Course(step_s=0.8, before_s=1.0, overload_s=3.0, after_s=5.0, first_step_per_s=1_500.0)
CONNECTIONS = 1_500
PREPARE_S = 60.0


def a_record(*rows: tuple[int, float, float, int], seconds: float = 10.0) -> Record:
    """Rows of kind, due_s, took_s and outcome."""
    record = Record(1.0, seconds)
    for row in rows:
        record.add(*row)
    return record


@pytest.mark.e2e
def test_four_times_the_peak_is_refused_in_good_order_and_nothing_is_lost(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    system = RunningSystem(tmp_path_factory.mktemp("overloaded"), **SHOP.environment).start()
    mix = Mix(SHOP)

    async def take() -> Outcome:
        client = RawClient(system.port, CONNECTIONS)
        try:
            async with asyncio.timeout(PREPARE_S):
                await client.start()
                await mix.prepare(client)
            return await run(Offering(client, mix), SAMPLE)
        finally:
            client.stop()

    try:
        outcome = uvloop.run(take())
        system.history.lines += mix.written_history().lines
    finally:
        system.stop()  # audits it, with all that holds and payments were promised
    refused = refused_shares(outcome.overload)
    assert only_refusals(outcome).holds, only_refusals(outcome).seen
    assert refused["browse"] > 0.1
    assert refused["pay"] < refused["browse"]
    assert in_order(outcome).holds, in_order(outcome).seen
    assert goodput_per_s(outcome.after) > 0


def test_goodput_is_what_was_wanted_and_came_within_a_second() -> None:
    record = a_record((HOLD, 0.0, 0.5, SERVED), (HOLD, 1.0, 1.5, SERVED), (PAY, 2.0, 0.1, REFUSED), seconds=2.0)
    assert goodput_per_s(record) == 0.5


def test_normal_is_when_four_half_seconds_in_a_row_are_as_before() -> None:
    before = a_record((HOLD, 0.0, 0.010, SERVED))
    usual = [(HOLD, at / 2, 0.012, SERVED) for at in range(20)]
    assert seconds_until_normal(a_record(*usual), before) == 0
    for odd in ((HOLD, 1.2, 0.5, SERVED), (HOLD, 1.2, 0.001, REFUSED), (HOLD, 1.2, 0.001, FAILED)):
        assert seconds_until_normal(a_record(*usual, odd), before) == 1.5
    assert seconds_until_normal(a_record(*[(HOLD, at / 2, 0.5, SERVED) for at in range(20)]), before) == math.inf


def test_what_was_refused_is_tried_again_under_its_key_and_only_what_is_held_is_paid() -> None:
    mix = Mix(Shop(schedules=2, seats=3, users=4))
    holds = [request for request in (mix.next() for _ in range(5)) if request.kind == HOLD]
    assert not mix.is_wanted(holds[0], 503, b"HTTP/1.1 503 x\r\n\r\n")
    again = [request for request in (mix.next() for _ in range(10)) if request.kind in (HOLD, PAY)]
    assert again == holds
    held = b'HTTP/1.1 201 x\r\n\r\n{"id":"r1","userId":3}'
    assert mix.is_wanted(holds[0], 201, held)
    paid = [request.sent for request in (mix.next() for _ in range(10)) if request.kind == PAY]
    assert paid == [{"userId": 3, "reservationId": "r1", "token": "test-token"}]
    assert len(mix.written_history().lines) == 1


async def test_a_call_that_finds_no_connection_free_waits_for_one() -> None:
    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh")
                await writer.drain()
                await asyncio.sleep(0)
                writer.write(b"i")
        writer.close()
        gone.release()

    gone = asyncio.Semaphore(0)
    server = await asyncio.start_server(answers, "127.0.0.1", 0)
    client = RawClient(server.sockets[0].getsockname()[1], 2)
    await client.start()
    replies = await asyncio.gather(*(client.call(b"GET / HTTP/1.1\r\n\r\n") for _ in range(10)))
    assert {(status, reply[-2:]) for status, reply in replies} == {(200, b"hi")}
    client.stop()
    async with asyncio.timeout(5):
        for _ in range(2):
            await gone.acquire()
    server.close()
