"""Mutants of the reservation's way through the payment, and of the ids of writes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from libs.common import ids
from libs.common.events.reservation import ReservationConfirmed
from libs.common.storage.ports import Decision
from services.reservation.domain import block, reservation
from services.reservation.service.duties import Duties
from services.reservation.service.sweeping import Sweeping
from services.wallet import domain as wallet_domain
from tests.simulation.patching import Undo, attribute, everywhere


def completed_without_state() -> Sequence[Undo]:
    def completed(known: Any, n: int, now_ms: int) -> Any:
        found = reservation.found(known)
        if found.status == "CONFIRMED":
            return Decision(reservation.Step(found))
        after = reservation._settled(found, "completed", now_ms, status="CONFIRMED", owes="sell")
        told = ReservationConfirmed(
            after.id, n, after.user, after.ticket, room=after.room, sequence=after.sequence, at_ms=now_ms
        )
        return Decision(reservation.Step(after, "CONFIRMED"), after, [told])

    return [everywhere(reservation.completed, completed)]


def late_completed_is_ignored() -> Sequence[Undo]:
    original = reservation.completed

    def completed(known: Any, n: int, now_ms: int) -> Any:
        decision = original(known, n, now_ms)
        return decision if decision.state is not None else Decision(decision.result)

    return [everywhere(original, completed)]


def attempts_are_alike() -> Sequence[Undo]:
    def is_running(self: Any, n: int, status: str) -> bool:
        return bool(self.status == status and self.attempts)

    return [
        attribute(reservation.Reservation, "is_running", is_running),
        everywhere(wallet_domain.pay_op, lambda id_, _: f"pay:{id_}:1"),
    ]


def attempt_is_not_compared() -> Sequence[Undo]:
    def is_running(self: Any, n: int, status: str) -> bool:
        return bool(self.status == status and self.attempts)

    return [attribute(reservation.Reservation, "is_running", is_running)]


def decline_gives_the_pin_back() -> Sequence[Undo]:
    original = Duties.follow

    async def follow(self: Any, step: Any, now_ms: int) -> None:
        found = step.reservation
        if step.entered == "HELD":
            for index, seats in found.seats_by_block().items():

                def unpin(known: Any, seats: Any = seats) -> Any:
                    mine = [
                        known.at(each.seat)._replace(state="held", until_ms=found.expires_ms)
                        for each in seats
                        if known.at(each.seat).owner == found.id and known.at(each.seat).state == "paying"
                    ]
                    return Decision(None, known.changed(mine) if mine else None)

                await self._books.blocks.update(block.block_id(found.schedule, index), unpin)
        await original(self, step, now_ms)

    return [attribute(Duties, "follow", follow)]


def duty_is_forgotten() -> Sequence[Undo]:
    original = reservation.Reservation.due_ms.fget  # type: ignore[attr-defined]
    return [attribute(reservation.Reservation, "due_ms", property(lambda self: original(replace(self, owes=None))))]


def nothing_is_sent_again() -> Sequence[Undo]:
    return [attribute(reservation, "RESEND_MS", 10**9)]


def no_payment_deadline() -> Sequence[Undo]:
    original = reservation.swept

    def swept(known: Any, now_ms: int, skew_ms: int) -> Any:
        if known is None or known.status != "PAYING" or now_ms < known.attempts[-1].deadline_ms:
            return original(known, now_ms, skew_ms)
        if now_ms < known.asks_again_ms:
            return Decision(reservation.Step(known))
        after = reservation._asked_again(known, now_ms)
        return Decision(reservation.Step(after, resent=True), after, [reservation._requested(after, now_ms)])

    return [everywhere(original, swept)]


def lapsed_seats_stay() -> Sequence[Undo]:
    async def release_lapsed(self: Sweeping) -> bool:
        return False

    return [attribute(Sweeping, "release_lapsed", release_lapsed)]


def anyone_may_see() -> Sequence[Undo]:
    return [everywhere(reservation.owned, lambda known, *_: reservation.found(known))]


def new_id_at_every_sending() -> Sequence[Undo]:
    numbers = iter(range(10**9))
    original = ids.derived_id

    def derived_id(prefix: str, *parts: str | int) -> str:
        return original(prefix, *parts, next(numbers)) if prefix in ("r", "c") else original(prefix, *parts)

    return [everywhere(original, derived_id)]


def neither_deadline_nor_asking_again() -> Sequence[Undo]:
    return [*no_payment_deadline(), *nothing_is_sent_again()]


def late_completed_ignored_and_not_cancelled() -> Sequence[Undo]:
    """Both ends of the same case: an attempt is charged after its reservation has given up on it."""
    original = reservation.swept

    def swept(known: Any, now_ms: int, skew_ms: int) -> Any:
        decision = original(known, now_ms, skew_ms)
        if decision.state is None or decision.result.entered != "CANCELLING":
            return decision
        after = replace(decision.state, status="CANCELLED")
        return Decision(reservation.Step(after, "CANCELLED"), after)

    return [*late_completed_is_ignored(), everywhere(original, swept)]
