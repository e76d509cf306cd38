"""Points: never below zero (I3), conserved (I4), and charged exactly for what is confirmed (I5)."""

import hashlib
from collections.abc import Iterator
from itertools import groupby

import orjson

from loadtest.audit.doors.ports import Body, Document
from loadtest.audit.verdict import Check
from loadtest.audit.world import World

GENESIS = "0" * 32
SEALED = (
    "user", "seq", "kind", "amount", "balance_after", "op", "at_ms", "prev", "opened_ms", "request_digest",
)  # fmt: skip
SIGNS = {"charge": (0, 1), "open": (0, 1), "refund": (0, 1), "pay": (-1, 0), "decline": (0,), "void": (0,)}
CAUSES = {"charge": "charge", "open": "open", "pay": "pay", "decline": "pay", "void": "pay", "refund": "refund"}
"""How the op of an entry of each kind begins."""

SETTLED = {"completed": ("pay",), "declined": ("decline",), "cancelled": ("void", "decline", "pay")}
"""What the wallet wrote under an attempt with this outcome. A payment that was called off has its refund as well."""


def checks(world: World) -> Iterator[Check]:
    entries = sorted(world.documents["entries"], key=lambda each: (each.body["user"], each.body["seq"]))
    yield _never_below_zero(entries)
    yield from _chains(entries)
    yield _ops(entries)
    yield from _payments(world, entries)
    yield _prices(world)


def _never_below_zero(entries: list[Document]) -> Check:
    check = Check("I3", "no balance is below zero")
    for id_, _, body in entries:
        check.count += 1
        if body["balance_after"] < 0:
            check.offend(f"entry {id_} leaves user {body['user']} with {body['balance_after']}")
    return check


def _chains(entries: list[Document]) -> Iterator[Check]:
    sums = Check("I4", "each balance is the one before and the amount: nothing is lost or made, per user and in all")
    chain = Check("I4", "entries count from 1, each sealed with the hash of the one before")
    moved = left = 0
    for user, line in groupby(entries, key=lambda each: each.body["user"]):
        balance, seal, place = 0, GENESIS, 0
        for id_, _, body in line:
            place += 1
            chain.count += 1
            if (id_, body["seq"]) != (f"{user}:{place}", place):
                chain.offend(f"entry {id_} is the {place}th of user {user} and says it is the {body['seq']}th")
                place = body["seq"]
            if body["prev"] != seal:
                chain.offend(f"entry {id_} names {body['prev']} as the one before, whose hash is {seal}")
            sums.count += 1
            if balance + body["amount"] != body["balance_after"]:
                sums.offend(f"entry {id_}: {balance} and {body['amount']} is not {body['balance_after']}")
            if _sign(body["amount"]) not in SIGNS[body["kind"]]:
                sums.offend(f"entry {id_} is a {body['kind']} of {body['amount']}")
            balance, seal = body["balance_after"], _seal(body)
            moved += body["amount"]
        left += balance
    sums.expect(moved == left, f"all that was given, paid and given back is {moved}, and all balances are {left}")
    yield sums
    yield chain


def _seal(body: Body) -> str:
    return hashlib.blake2b(orjson.dumps([body[name] for name in SEALED]), digest_size=16).hexdigest()


def _sign(amount: int) -> int:
    return (amount > 0) - (amount < 0)


def _ops(entries: list[Document]) -> Check:
    check = Check("I4", "every cause has one entry, of its kind")
    first: dict[str, str] = {}
    for id_, _, body in entries:
        check.count += 1
        op = body["op"]
        if first.setdefault(op, id_) != id_:
            check.offend(f"{op} has the entries {first[op]} and {id_}")
        if op.partition(":")[0] != CAUSES[body["kind"]] or (body["kind"] == "open" and op != f"open:{body['user']}"):
            check.offend(f"entry {id_} of user {body['user']} is a {body['kind']} for {op}")
    return check


def _payments(world: World, entries: list[Document]) -> Iterator[Check]:
    """Reads what the ledger says of each reservation, and what each reservation says of its attempts."""
    written: dict[str, dict[str, Body]] = {}
    for _, _, body in entries:
        if body["kind"] not in ("charge", "open"):
            written.setdefault(body["op"].split(":")[1], {})[body["op"]] = body
    yield _charged(world, written)
    yield _refunded(written)
    yield _settled(world, written)


def _charged(world: World, written: dict[str, dict[str, Body]]) -> Check:
    check = Check("I5", "charged and not given back is what is confirmed, once, at its amount")
    for id_, body in world.reservations.items():
        check.count += 1
        charges = _open_charges(id_, written.get(id_, {}))
        wanted = {f"pay:{id_}:{len(body['attempts'])}": body["amount"]} if body["status"] == "CONFIRMED" else {}
        if charges == wanted:
            continue
        told = f"{id_} of user {body['user']} is {body['status']} for {body['amount']}, charged: {charges or 'nothing'}"
        is_waited_for = not wanted and body["status"] != "REFUNDED"
        check.offend(told, _settles_ms(world, body, written[id_]) if is_waited_for else 0)
    for id_, lines in written.items():
        if id_ not in world.reservations:
            check.offend(f"{', '.join(lines)}: there is no reservation {id_}")
        for op, entry in lines.items():
            owner = world.reservations.get(id_, entry)["user"]
            if entry["user"] != owner:
                check.offend(f"{op} is in the ledger of user {entry['user']}, but {id_} is user {owner}'s")
    return check


def _open_charges(reservation: str, lines: dict[str, Body]) -> dict[str, int]:
    """Points by op, of payments that were not given back."""
    return {
        op: -entry["amount"]
        for op, entry in lines.items()
        if entry["kind"] == "pay" and f"refund:{reservation}:{op.rpartition(':')[2]}" not in lines
    }


def _settles_ms(world: World, body: Body, lines: dict[str, Body]) -> int:
    """The time by which a charge is confirmed or given back."""
    times = [body["updated_ms"], *(entry["at_ms"] for entry in lines.values())]
    times += [attempt["deadline_ms"] for attempt in body["attempts"] if attempt["outcome"] is None]
    return int(max(times) + world.rules.grace_ms)


def _refunded(written: dict[str, dict[str, Body]]) -> Check:
    check = Check("I5", "what is given back is what was charged")
    for id_, lines in written.items():
        for op, entry in lines.items():
            if entry["kind"] == "refund":
                paid = lines.get(f"pay:{id_}:{op.rpartition(':')[2]}", {})
                given = (paid.get("kind"), paid.get("user"), -paid.get("amount", 0))
                check.expect(
                    given == ("pay", entry["user"], entry["amount"]),
                    f"{op} gives {entry['amount']} back to user {entry['user']}; what was written before is {given}",
                )
    return check


def _settled(world: World, written: dict[str, dict[str, Body]]) -> Check:
    check = Check("I5", "every outcome of an attempt is one that the wallet wrote, and only the last may have none yet")
    for id_, body in world.reservations.items():
        for attempt in body["attempts"]:
            if attempt["outcome"] is None:
                is_running = body["status"] in ("PAYING", "CANCELLING") and attempt is body["attempts"][-1]
                told = f"attempt {attempt['n']} of {id_} has no outcome, and {id_} is {body['status']}"
                check.expect(is_running, told)
                continue
            entry = written.get(id_, {}).get(f"pay:{id_}:{attempt['n']}")
            kind = entry["kind"] if entry else None
            check.expect(
                kind in SETTLED[attempt["outcome"]],
                f"attempt {attempt['n']} of {id_} was {attempt['outcome']}; the wallet wrote {kind or 'nothing'}",
            )
    return check


def _prices(world: World) -> Check:
    check = Check("I5", "every amount is the published price of the seats")
    for id_, body in world.reservations.items():
        published = world.prices.get(body["schedule"])
        if published is None:
            check.expect(False, f"{id_} is for schedule {body['schedule']}, which is not on sale")
            continue
        price = sum(published.get(seat, 0) for seat, *_ in body["seats"])
        check.expect(price == body["amount"], f"{id_} asks {body['amount']}; its seats cost {price}")
    return check
