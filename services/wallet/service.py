"""What the wallet does: each method is one thing a client or an event asks for."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from libs.common import log
from libs.common.clock import Clock
from libs.common.errors import InvalidField
from libs.common.ids import derived_id
from libs.common.storage.ports import Contended
from libs.common.web.idempotency import IdempotencyKey, RunningWrites
from services.wallet.domain import (
    Entry,
    answer_of,
    breaks,
    charge,
    check_same_request,
    open_wallet,
    opened,
    pay_op,
    pay_or_decline,
    refund,
    refund_op,
    void,
)
from services.wallet.metrics import WalletMetrics
from services.wallet.ports import Ledger, OpTaken, PlaceTaken

APPEND_TRIES_MAX = 200
"""Appends of one entry that may lose to other processes. Who has just appended knows the head and needs one step for
the next entry; who lost needs two, and may lose for as long as others have entries of this user waiting."""

HEADS_MAX = 100_000
"""Heads kept in memory; beyond them the one used longest ago is read again when needed."""

ANSWERED_S = 2.0
"""For so long a question that was answered is not answered again; whoever missed the answer asks after 5 s."""

REMEMBERED_S = 30.0
"""For so long it is not answered to whoever asked before it was: a wallet that was away for a while finds every
question of that time several times over, and needs longer than the above for all of them. Whoever did not get the
answer, which a broker may lose, asks anew within 20 s; and a clock that ran ahead is believed for no longer than this.
"""

CHECKED_USERS_MAX = 10
CHECKED_ENTRIES_MAX = 50
"""Of each user looked at in one bite, the newest."""

BEFORE_ALL = 2**53
"""Above any sequence number, and a number that every store can compare with."""

logger = log.get_logger(__name__)


class WalletService:
    """Writes the ledger. A head per user is kept in memory as a guess; the store's unique keys decide.

    Writers of one user take turns, because each entry needs the one before. Between processes a stale head loses its
    insert, is read again and tries once more.
    """

    def __init__(self, ledger: Ledger, clock: Clock, metrics: WalletMetrics, skew_ms: int = 0) -> None:
        self._ledger = ledger
        self._clock = clock
        self._skew_ms = skew_ms
        self._metrics = metrics
        self._running = RunningWrites(clock)
        self._heads: OrderedDict[int, Entry] = OrderedDict()
        self._turns: dict[int, tuple[asyncio.Lock, int]] = {}
        self._answered: OrderedDict[str, tuple[float, int]] = OrderedDict()
        """When answering each question of the last `REMEMBERED_S` began, the oldest first: monotonic s, epoch ms."""
        self._to_check: list[int] = []

    async def wallet(self, user: int) -> Entry:
        """The newest entry of a user's wallet. Raises UserNotFound."""
        return opened(await self._ledger.head(user), user)

    async def entries(self, user: int, before_seq: int, limit: int) -> list[Entry]:
        """A page of the ledger, newest first. Raises UserNotFound."""
        opened(await self._ledger.head(user), user)
        return await self._ledger.page(user, before_seq, limit)

    async def charge(self, user: int, point: int, key: IdempotencyKey) -> tuple[Entry, bool]:
        """Add points once per key; the entry, and whether it was there already.

        Raises IdempotencyMismatch, RequestInProgress, InvalidField.
        """
        op = f"charge:{derived_id('c', user, 'charge', key.value)}"
        now_ms = self._clock.now_ms()
        with self._running.mark(user, "charge", key.value):
            entry, is_new = await self._append(
                user,
                op,
                lambda head: charge(head, user, point, op=op, request_digest=key.body_digest, now_ms=now_ms),
            )
        if not is_new:
            check_same_request(entry, key.body_digest)
        return entry, not is_new

    async def open(self, user: int, amount: int) -> Entry:
        """Begin a wallet with an opening balance; a wallet that has begun stays as it is."""
        now_ms = self._clock.now_ms()
        await self._append(user, f"open:{user}", lambda head: open_wallet(head, user, amount, now_ms))
        return await self.wallet(user)

    async def pay(self, reservation: str, attempt: int, user: int, amount: int, *, asked_ms: int) -> None:
        """Decide a payment attempt once, and answer it as often as it is asked after the last answer."""
        op, now_ms = pay_op(reservation, attempt), self._clock.now_ms()
        with self._answering(f"pay {op}", asked_ms) as is_due:
            if not is_due:
                return
            entry, is_new = await self._append(
                user, op, lambda head: pay_or_decline(head, user, amount, op, now_ms), answers=True
            )
            if not is_new:
                if entry.kind == "pay":  # what was given back meanwhile is not told as paid
                    entry = await self._ledger.by_op(refund_op(reservation, attempt)) or entry
                await self._ledger.tell_again(entry, answer_of(entry))

    async def cancel(self, reservation: str, attempt: int, user: int, *, asked_ms: int) -> None:
        """Call a payment attempt off: void it if it was never decided, refund it if it was charged."""
        op, now_ms = pay_op(reservation, attempt), self._clock.now_ms()
        with self._answering(f"cancel {op}", asked_ms) as is_due:
            if not is_due:
                return
            entry, is_new = await self._append(user, op, lambda head: void(head, user, op, now_ms), answers=True)
            if not is_new and entry.kind == "pay":
                paid, back = entry, refund_op(reservation, attempt)
                entry, is_new = await self._append(
                    user, back, lambda head: refund(head, paid, back, now_ms), answers=True
                )
            if not is_new:
                await self._ledger.tell_again(entry, answer_of(entry))

    async def check_ledgers(self) -> bool:
        """Look at a few of the ledgers written lately, in turn: does every entry still follow from the one before? What
        does not is counted and told. A bite of a job: False, there is always more and it never hurries."""
        if not self._to_check:
            self._to_check = list(self._heads)
        for _ in range(min(CHECKED_USERS_MAX, len(self._to_check))):
            user = self._to_check.pop()
            wrong = breaks(await self._ledger.page(user, BEFORE_ALL, CHECKED_ENTRIES_MAX))
            if wrong:
                self._metrics.ledger_breaks.inc(len(wrong))
                logger.error("the ledger of a user does not add up", user=user, entries=wrong)
        return False

    async def _append(
        self, user: int, op: str, propose: Callable[[Entry | None], Entry], *, answers: bool = False
    ) -> tuple[Entry, bool]:
        """Append what `propose` makes of the head, unless `op` has its entry; the entry, and whether it is new.

        `propose` returns the head itself where that already is what was wanted. What it refuses may rest on a head that
        is stale, or on the very entry of `op`: it is believed only after both were looked up.
        """
        async with self._turn(user):
            head = self._heads.get(user) or await self._ledger.head(user)
            for _ in range(APPEND_TRIES_MAX):
                if head is not None and head.op == op:  # entries never change, so one that is remembered will do
                    return head, False
                try:
                    entry = propose(head)
                    if entry is head:
                        return entry, False
                    await self._ledger.append(entry, [answer_of(entry)] if answers else [])
                except PlaceTaken:
                    head = await self._ledger.head(user)
                    continue
                except (OpTaken, InvalidField) as lost:
                    existing = await self._ledger.by_op(op)
                    if existing is not None:
                        return existing, False
                    stale, head = head, await self._ledger.head(user)
                    if isinstance(lost, InvalidField) and head == stale:
                        raise  # refused on what is true
                    continue
                self._remember(entry)
                self._metrics.entries[entry.kind].inc()
                return entry, True
        raise Contended("This wallet changes too fast; try again.", retry_after_s=1)

    @contextmanager
    def _answering(self, question: str, asked_ms: int) -> Iterator[bool]:
        """False when answering it began a moment ago, or after it was asked. An event that fails stays with its
        consumer, which tries again: the same question asked meanwhile may count on it."""
        now_s, now_ms = self._clock.monotonic_s(), self._clock.now_ms()
        while self._answered and next(iter(self._answered.values()))[0] <= now_s - REMEMBERED_S:
            self._answered.popitem(last=False)
        began_s, began_ms = self._answered.get(question, (float("-inf"), 0))
        if now_s - began_s < ANSWERED_S or asked_ms + self._skew_ms < began_ms:
            yield False
            return
        self._answered[question] = (now_s, now_ms)
        self._answered.move_to_end(question)
        try:
            yield True
        except BaseException:
            self._answered.pop(question, None)
            raise

    def _remember(self, entry: Entry) -> None:
        self._heads[entry.user] = entry
        self._heads.move_to_end(entry.user)
        if len(self._heads) > HEADS_MAX:
            self._heads.popitem(last=False)

    @asynccontextmanager
    async def _turn(self, user: int) -> AsyncIterator[None]:
        """One writer of a user at a time; a lock lives only while somebody holds it or waits for it."""
        lock, users = self._turns.get(user, (asyncio.Lock(), 0))
        self._turns[user] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._turns.pop(user)
            if users > 1:
                self._turns[user] = (lock, users - 1)
