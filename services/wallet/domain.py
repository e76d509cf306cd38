"""The ledger: append-only entries per user, each sealed with the hash of the one before.

The one invariant: a balance is the `balance_after` of the newest entry and never below 0; every cause (`op`) has at
most one entry. A payment attempt has exactly one entry under `pay:<reservation>:<attempt>`, whatever came of it: `pay`,
or a zero `decline`, or a zero `void` written by a cancellation that came first. So a request that arrives twice, late,
or after its cancellation always finds what was decided, and finds it decided once.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from operator import attrgetter
from typing import Literal

import orjson

from libs.common.errors import FieldError, IdempotencyMismatch, InvalidField, Problem
from libs.common.events.wallet import PaymentCompleted, PaymentDeclined, PaymentRefunded, PaymentVoided

Kind = Literal["charge", "pay", "decline", "void", "refund", "open"]
PaymentAnswer = PaymentCompleted | PaymentDeclined | PaymentVoided | PaymentRefunded

BALANCE_MAX = 10**15
"""Charges stop here: far above any use, far enough below 2^53 that a refund always fits."""

GENESIS = "0" * 32
"""`prev` of a user's first entry."""


class UserNotFound(Problem):
    status, code, title = 404, "USER_NOT_FOUND", "This user has no wallet"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a user's ledger. Amounts are points: negative where they left the wallet.

    `opened_ms` is when the wallet began (its first charge or opening balance), None as long as it has not: a payment
    of somebody without a wallet is declined, and that leaves an entry but opens nothing.
    """

    user: int
    seq: int
    kind: Kind
    amount: int
    balance_after: int
    op: str
    at_ms: int
    prev: str
    opened_ms: int | None
    request_digest: str | None = None

    @property
    def seal(self) -> str:
        """The hash over every field: `prev` of the next entry, so that tampering with any entry shows."""
        return hashlib.blake2b(orjson.dumps(_values_of(self)), digest_size=16).hexdigest()


_values_of = attrgetter(*(field.name for field in fields(Entry)))


def pay_op(reservation: str, attempt: int) -> str:
    """The cause of whatever is decided about a payment attempt."""
    return f"pay:{reservation}:{attempt}"


def refund_op(reservation: str, attempt: int) -> str:
    return f"refund:{reservation}:{attempt}"


def charge(head: Entry | None, user: int, point: int, *, op: str, request_digest: str, now_ms: int) -> Entry:
    """The entry that adds `point` points. Raises InvalidField when the balance would pass BALANCE_MAX."""
    if (head.balance_after if head else 0) + point > BALANCE_MAX:
        wrong = FieldError("/point", f"the balance would pass {BALANCE_MAX}")
        raise InvalidField("This charge is too large for the wallet.", errors=[wrong])
    return _next(head, user, "charge", point, op=op, now_ms=now_ms, request_digest=request_digest)


def open_wallet(head: Entry | None, user: int, amount: int, now_ms: int) -> Entry:
    """The opening entry; the head itself when the wallet has begun: an opening balance is given once."""
    if head is not None and head.opened_ms is not None:
        return head
    return _next(head, user, "open", amount, op=f"open:{user}", now_ms=now_ms)


def pay_or_decline(head: Entry | None, user: int, amount: int, op: str, now_ms: int) -> Entry:
    """The one entry of a payment attempt: `pay` if the balance allows it, else a zero `decline`."""
    if head is not None and head.balance_after >= amount:
        return _next(head, user, "pay", -amount, op=op, now_ms=now_ms)
    return _next(head, user, "decline", 0, op=op, now_ms=now_ms)


def void(head: Entry | None, user: int, op: str, now_ms: int) -> Entry:
    """The tombstone of an attempt that was cancelled before it was charged."""
    return _next(head, user, "void", 0, op=op, now_ms=now_ms)


def refund(head: Entry | None, paid: Entry, op: str, now_ms: int) -> Entry:
    """The entry that gives back what `paid` took."""
    return _next(head, paid.user, "refund", -paid.amount, op=op, now_ms=now_ms)


def answer_of(entry: Entry) -> PaymentAnswer:
    """The event that tells what was decided about a payment attempt: the same one however often it is asked for."""
    _, reservation, attempt = entry.op.split(":")
    number, user, at_ms = int(attempt), entry.user, entry.at_ms
    if entry.kind == "pay":
        return PaymentCompleted(reservation, number, user, -entry.amount, at_ms)
    if entry.kind == "refund":
        return PaymentRefunded(reservation, number, user, entry.amount, at_ms)
    if entry.kind == "decline":
        return PaymentDeclined(reservation, number, user, at_ms)
    return PaymentVoided(reservation, number, user, at_ms)


def check_same_request(existing: Entry, request_digest: str) -> None:
    """Raises IdempotencyMismatch when the key of `existing` comes back with another body."""
    if existing.request_digest != request_digest:
        raise IdempotencyMismatch("This key has charged another amount; use a new key for a new charge.")


def opened(head: Entry | None, user: int) -> Entry:
    """The newest entry of a wallet that has begun. Raises UserNotFound."""
    if head is None or head.opened_ms is None:
        raise UserNotFound(f"User {user} has no wallet yet; the first charge opens it.")
    return head


def breaks(newest_first: Sequence[Entry]) -> list[int]:
    """The sequence numbers of neighbouring entries that do not follow from the entry before, or leave a debt."""
    return [entry.seq for entry, before in pairwise(newest_first) if not _follows(entry, before)]


def _follows(entry: Entry, before: Entry) -> bool:
    balance = before.balance_after + entry.amount
    return entry.seq == before.seq + 1 and entry.prev == before.seal and entry.balance_after == balance >= 0


def _next(
    head: Entry | None, user: int, kind: Kind, amount: int, *, op: str, now_ms: int, request_digest: str | None = None
) -> Entry:
    opened_ms = head.opened_ms if head else None
    if opened_ms is None and kind in ("charge", "open"):
        opened_ms = now_ms
    return Entry(
        user=user,
        seq=head.seq + 1 if head else 1,
        kind=kind,
        amount=amount,
        balance_after=(head.balance_after if head else 0) + amount,
        op=op,
        at_ms=now_ms,
        prev=head.seal if head else GENESIS,
        opened_ms=opened_ms,
        request_digest=request_digest,
    )
