"""Mutants of the seats: blocks, holds and the cap."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from libs.common.events.reservation import SeatsReleased
from libs.common.storage.ports import Decision
from services.reservation.domain import block, cap, lapse
from services.reservation.service.holding import Holding
from services.reservation.service.paying import Paying
from tests.simulation.patching import Undo, attribute, everywhere


def release_unowned() -> Sequence[Undo]:
    def release(found: Any, reservation: str, seats: Any, now_ms: int) -> Any:
        if found is None:
            return Decision(None)
        freed = [seat.freed() for seat in map(found.at, seats) if seat.state != "free"]
        if not freed:
            return Decision(None)
        told = SeatsReleased(found.schedule, reservation, block._seats_at(freed), now_ms)
        return Decision(None, found.changed(freed), [told])

    return [everywhere(block.release, release)]


def hold_without_lapse_check() -> Sequence[Undo]:
    return [attribute(block.Seat, "is_lapsed", lambda seat, *_: seat.until_ms is not None)]


def lapse_without_skew() -> Sequence[Undo]:
    return [everywhere(lapse.lapsed, lambda until_ms, now_ms, _: now_ms >= until_ms)]


def no_pin() -> Sequence[Undo]:
    async def pin(self: Paying, known: Any, now_ms: int) -> None:
        return

    return [attribute(Paying, "_pin", pin)]


def own_seat_is_reset() -> Sequence[Undo]:
    original = block.hold

    def hold(found: Any, order: Any, now_ms: int, skew_ms: int) -> Any:
        decision = original(found, order, now_ms, skew_ms)
        if decision.state is not None or found is None:
            return decision
        mine = [found.at(seat) for seat in order.seats]
        again = [block.Seat(each.seat, each.n, "held", order.reservation, order.user, order.until_ms) for each in mine]
        return Decision(block.Taken(block._seats_at(again), order.until_ms), found.changed(again))

    return [everywhere(original, hold)]


def own_lapsing_seat_differs() -> Sequence[Undo]:
    original = block.hold

    def hold(found: Any, order: Any, now_ms: int, skew_ms: int) -> Any:
        decision = original(found, order, now_ms, skew_ms)
        taken = block.Taken(decision.result.seats, order.until_ms)
        return Decision(taken, decision.state, decision.events)

    return [everywhere(original, hold)]


def no_cap() -> Sequence[Undo]:
    return [attribute(Holding, "_order", _uncapped(Holding._order))]


def _uncapped(original: Any) -> Any:
    return lambda *args: replace(original(*args), seats_max=None)


def lapsed_can_be_pinned() -> Sequence[Undo]:
    return [attribute(block, "_lapsed_others", lambda *_: [])]


def no_place_under_the_cap() -> Sequence[Undo]:
    return [everywhere(cap.take_place, lambda *_, **__: Decision(None))]


def part_of_a_hold() -> Sequence[Undo]:
    original = block.hold

    def hold(found: Any, order: Any, now_ms: int, skew_ms: int) -> Any:
        here = found or block.Block(order.schedule, order.index, {})
        free = tuple(
            seat
            for seat in order.seats
            if here.at(seat).state == "free"
            or here.at(seat).is_lapsed(now_ms, skew_ms)
            or here.at(seat).owner == order.reservation
        )
        return original(found, replace(order, seats=free or order.seats), now_ms, skew_ms)

    return [everywhere(original, hold)]
