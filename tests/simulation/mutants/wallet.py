"""Mutants of the ledger."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from libs.common.events.wallet import PaymentVoided
from services.wallet import domain as wallet_domain
from services.wallet import repository as wallet_repository
from services.wallet.service import WalletService
from tests.simulation.mutants.saga import late_completed_is_ignored
from tests.simulation.patching import Undo, attribute, everywhere


def ops_are_not_unique() -> Sequence[Undo]:
    entries = replace(wallet_repository.ENTRIES, unique=(), indexes=(*wallet_repository.ENTRIES.indexes, ("op",)))
    return [everywhere(wallet_repository.ENTRIES, entries)]


def no_balance_guard() -> Sequence[Undo]:
    def pay(head: Any, user: int, amount: int, op: str, now_ms: int) -> Any:
        return wallet_domain._next(head, user, "pay", -amount, op=op, now_ms=now_ms)

    return [everywhere(wallet_domain.pay_or_decline, pay)]


def no_tombstone() -> Sequence[Undo]:
    async def cancel(self: WalletService, reservation: str, attempt: int, user: int, *, asked_ms: int) -> None:
        if await self._ledger.by_op(wallet_domain.pay_op(reservation, attempt)) is not None:
            await original(self, reservation, attempt, user, asked_ms=asked_ms)
            return
        number, now_ms = (await self._head_seq(user)) + 1, self._clock.now_ms()  # type: ignore[attr-defined]
        op = f"void-{number}:{reservation}:{attempt}"
        await self._append(user, op, lambda head: wallet_domain.void(head, user, op, now_ms), answers=True)

    async def head_seq(self: WalletService, user: int) -> int:
        head = await self._ledger.head(user)
        return head.seq if head else 0

    original = WalletService.cancel
    WalletService._head_seq = head_seq  # type: ignore[attr-defined]
    return [attribute(WalletService, "cancel", cancel)]


def no_second_answer() -> Sequence[Undo]:
    async def tell_again(self: Any, entry: Any, event: object) -> None:
        return

    return [attribute(wallet_repository.LedgerRepository, "tell_again", tell_again)]


def no_refund_of_a_late_payment() -> Sequence[Undo]:
    async def cancel(self: WalletService, reservation: str, attempt: int, user: int, **_: int) -> None:
        op, now_ms = wallet_domain.pay_op(reservation, attempt), self._clock.now_ms()
        entry, is_new = await self._append(
            user, op, lambda head: wallet_domain.void(head, user, op, now_ms), answers=True
        )
        if not is_new:
            told = PaymentVoided(reservation, attempt, user, now_ms)
            await self._ledger.tell_again(entry, told)

    return [attribute(WalletService, "cancel", cancel)]


def no_tombstone_and_late_completed_ignored() -> Sequence[Undo]:
    return [*no_tombstone(), *late_completed_is_ignored()]
