"""The wallet's HTTP interface."""

from typing import Annotated, Literal

from pydantic import Field

from libs.common.contract.operation import Amount, IsoTime, Model, Operation, PositiveInt, Priority

CHARGE_MAX = 10**9
"""The most points one charge may add."""


class ChargeRequest(Model):
    user_id: PositiveInt
    point: Annotated[int, Field(ge=1, le=CHARGE_MAX, description="points to add")]


class Wallet(Model):
    """A wallet as its last ledger entry left it. `createAt` is spelled as the first clients know it."""

    id: PositiveInt
    user_id: PositiveInt
    amount: Annotated[Amount, Field(description="balance in points")]
    create_at: IsoTime
    updated_at: IsoTime


class LedgerEntry(Model):
    seq: PositiveInt
    kind: Literal["charge", "pay", "decline", "void", "refund", "open"]
    amount: Annotated[int, Field(description="points; negative where they left the wallet")]
    balance_after: Amount
    op: Annotated[str, Field(description="what caused the entry; unique")]
    at: IsoTime


class LedgerPage(Model):
    entries: list[LedgerEntry]
    next_before: Annotated[PositiveInt | None, Field(description="pass as `before` for the next page")] = None


class LedgerQuery(Model):
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    before: Annotated[int, Field(ge=1, le=2**53 - 1, description="only entries with a smaller seq")] = 2**53 - 1


class OpeningBalance(Model):
    amount: Annotated[Amount, Field(description="points the wallet starts with")]


READ_WALLET = Operation(
    "readWallet", "wallet", "GET", "/api/v1/users/{userId}/wallet", "Balance of a user",
    answer=Wallet, problems=("USER_NOT_FOUND",),
)  # fmt: skip
READ_ENTRIES = Operation(
    "readLedger", "wallet", "GET", "/api/v1/users/{userId}/wallet/entries", "Ledger of a user, newest first",
    query=LedgerQuery, answer=LedgerPage, problems=("USER_NOT_FOUND",),
)  # fmt: skip
CHARGE = Operation(
    "chargePoints", "wallet", "PATCH", "/api/v1/users/charge/point", "Add points; the first charge opens the wallet",
    body=ChargeRequest, answer=Wallet, problems=("REQUEST_IN_PROGRESS", "IDEMPOTENCY_MISMATCH"),
    priority=Priority.PAYMENT,
)  # fmt: skip
OPEN_WALLET = Operation(
    "openWallet", "wallet", "PUT", "/internal/v1/wallets/{userId}", "Give a new wallet its opening balance, once",
    body=OpeningBalance, answer=Wallet,
)  # fmt: skip

OPERATIONS = (READ_WALLET, READ_ENTRIES, CHARGE, OPEN_WALLET)
