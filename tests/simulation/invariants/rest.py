"""What must be true once the faults have stopped: nothing is left undone, and all accounts of the truth agree.

| | |
|---|---|
| I4 I5 | what a user was charged and paid adds up; charged and CONFIRMED are the same reservations |
| I8 | no reservation past its deadline, no unpublished event, no lag, nobody still in line |
| I10 | no dead letters, no consumer that has stopped |
| I13 | sold, held and free seats are all seats, and belong to the reservations that say so |
| I14 | every catalog shows the seats that are free |
"""

from collections.abc import Mapping
from typing import Any

import orjson

from tests.simulation.invariants.answers import AnswerWatch
from tests.simulation.invariants.watch import Watch

Body = dict[str, Any]

AT_REST = {"CONFIRMED", "CANCELLED", "EXPIRED", "REFUNDED"}


def restless(reservations: Mapping[str, Body]) -> list[str]:
    """Reservations that something still has to happen to."""
    return [
        f"{id_} is {each['status']}{' and owes ' + each['owes'] if each['owes'] else ''}"
        for id_, each in reservations.items()
        if each["status"] not in AT_REST or each["owes"]
    ]


def overdue(reservations: Mapping[str, Body], now_ms: int, grace_ms: int) -> list[str]:
    """Reservations whose time has passed, by more than `grace_ms`, without anything happening."""
    late = []
    for id_, each in reservations.items():
        since_ms: int = {
            "HELD": each["expires_ms"],
            "PAYING": each["attempts"][-1]["deadline_ms"] if each["attempts"] else now_ms,
            "CANCELLING": each["updated_ms"],
            "REFUNDING": each["updated_ms"],
        }.get(each["status"]) or (each["updated_ms"] if each["owes"] else now_ms)
        if now_ms > since_ms + grace_ms:
            late.append(f"{id_} is {each['status']}, owes {each['owes']}, since {now_ms - since_ms} ms")
    return late


def outside(watch: Watch) -> list[str]:
    """Places that were given out and have neither been taken nor given up."""
    line = watch.line
    return [
        f"{room}:{sequence}"
        for room, body in line.rooms.items()
        for sequence in range(body["floor"] + 1, body["issued"] + 1)
        if (room, sequence) not in line.sessions
    ]


def check_accounts(watch: Watch, answers: AnswerWatch, opening: Mapping[int, int]) -> None:
    """Money: every balance is explained, every charge has its ticket, every key charged once."""
    findings = watch.findings
    for id_, each in watch.sale.reservations.items():
        charged = watch.sale.net_charged.get(id_, 0)
        due = each["amount"] if each["status"] == "CONFIRMED" else 0
        findings.check(charged == due, "I5", f"{id_} is {each['status']} and charged {charged}", (id_,))
    for user, head in watch.ledger.heads.items():
        entered = watch.ledger.charges.get(user, [])
        spent = sum(
            charged for id_, charged in watch.sale.net_charged.items() if watch.sale.reservations[id_]["user"] == user
        )
        balance = opening.get(user, 0) + sum(entry.amount for entry in entered) - spent
        findings.check(head.balance_after == balance, "I4", f"user {user} has {head.balance_after}, not {balance}")
        sent = answers.sent_charges.get(user, [])
        # A request without a key that the network doubles is two requests, and nobody can tell.
        most = len({key for key in sent if key}) + 2 * sum(not key for key in sent)
        told = answers.acked.charged.get(user, [])
        acked = len({key for key in told if key}) + sum(not key for key in told)
        findings.check(
            acked <= len(entered), "I6", f"user {user} was told of {acked} charges, {len(entered)} are there"
        )
        findings.check(len(entered) <= most, "I9", f"user {user} sent {most} charges, {len(entered)} are there")


def check_seats(watch: Watch, layouts: Mapping[int, list[int]]) -> None:
    """Seats: each sold one is its reservation's, and nothing else is taken."""
    sale = watch.sale
    sold = {(schedule, row[0]): row for (schedule, _), row in sale.seats.items() if row[2] != "free"}
    for (schedule, seat), row in sold.items():
        fits = row[2] == "sold" and sale.confirmed.get((schedule, seat)) == row[3]
        watch.findings.check(fits, "I13", f"seat {schedule}/{seat} is {row} at rest", (str(row[3]),))
    for key, id_ in sale.confirmed.items():
        watch.findings.check(key in sold, "I13", f"seat {key} of {id_} is free", (id_,))
    total = sum(len(seats) for seats in layouts.values())
    watch.findings.check(len(sold) + len(_free(watch, layouts)) == total, "I13", "seats do not add up")


def _free(watch: Watch, layouts: Mapping[int, list[int]]) -> list[tuple[int, int]]:
    rows = watch.sale.seats
    return [
        (schedule, seat)
        for schedule, seats in layouts.items()
        for seat in seats
        if rows.get((schedule, seat), (0, 0, "free"))[2] == "free"
    ]


def check_view(watch: Watch, catalog: str, schedule: int, body: bytes, layouts: Mapping[int, list[int]]) -> None:
    """I14: what a catalog tells of a schedule is what the blocks say."""
    info = orjson.loads(body)["concertSeatInfo"]
    shown = sorted(seat["id"] for seat in info["concertSeat"]) if info else []
    free = sorted(seat for each, seat in _free(watch, layouts) if each == schedule)
    watch.findings.check(shown == free, "I14", f"{catalog} shows {shown} of schedule {schedule}, free are {free}")
