"""HTTP in: the wallet's operations, each translated into one call of the service."""

from aiohttp.web import Response

from libs.common.clock import iso_utc
from libs.common.contract import wallet as contract
from libs.common.web.endpoints import Call, Endpoint, answer
from services.wallet.domain import Entry
from services.wallet.service import WalletService


async def read_wallet(call: Call[WalletService]) -> Response:
    return answer(_wallet(await call.service.wallet(call.integer("userId"))))


async def read_entries(call: Call[WalletService]) -> Response:
    query: contract.LedgerQuery = call.query
    entries = await call.service.entries(call.integer("userId"), query.before, query.limit)
    more = len(entries) == query.limit and entries[-1].seq > 1
    page = contract.LedgerPage(
        entries=[_entry(entry) for entry in entries], next_before=entries[-1].seq if more else None
    )
    return answer(page)


async def charge(call: Call[WalletService]) -> Response:
    body: contract.ChargeRequest = call.body
    entry, replayed = await call.service.charge(body.user_id, body.point, call.key)
    return answer(_wallet(entry), replayed=replayed)


async def open_wallet(call: Call[WalletService]) -> Response:
    body: contract.OpeningBalance = call.body
    return answer(_wallet(await call.service.open(call.integer("userId"), body.amount)))


def _wallet(head: Entry) -> contract.Wallet:
    return contract.Wallet(
        id=head.user,
        user_id=head.user,
        amount=head.balance_after,
        create_at=iso_utc(head.opened_ms or head.at_ms),
        updated_at=iso_utc(head.at_ms),
    )


def _entry(entry: Entry) -> contract.LedgerEntry:
    return contract.LedgerEntry(
        seq=entry.seq,
        kind=entry.kind,
        amount=entry.amount,
        balance_after=entry.balance_after,
        op=entry.op,
        at=iso_utc(entry.at_ms),
    )


ENDPOINTS = (
    Endpoint(contract.READ_WALLET, read_wallet),
    Endpoint(contract.READ_ENTRIES, read_entries),
    Endpoint(contract.CHARGE, charge),
    Endpoint(contract.OPEN_WALLET, open_wallet),
)
