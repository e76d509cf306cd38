"""What a run is judged by: each bound with what was found, whether it holds, and whether it could be looked at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FAILED_SHARE_MAX = 0.001
SETTLED_S = 60.0
FILES_MORE_MAX = 16
TASKS_MORE_MAX = 32
MEMORY_MORE_MAX_MB = 64.0

INVARIANTS = {
    "I1": "double sales",
    "I4": "double debits",
    "I5": "paid without a ticket, or the other way round",
    "I6": "acknowledged writes that are lost",
    "I11": "places in line lost or overtaken",
}
"""The auditor's claims that the bounds are about; every other claim has to hold as well."""

NOT_IN_STORES = ("I12", "I15")
"""What no audit can show, whatever it may read."""


@dataclass(frozen=True, slots=True)
class Judged:
    """`found` and `bound` are as a person reads them; `holds` is None for what could not be looked at, and why then
    says so."""

    what: str
    found: str
    bound: str
    holds: bool | None
    why: str = ""


def at_most(what: str, found: float | None, bound: float, unit: str = "", *, missing: str = "") -> Judged:
    """A figure with a largest value; None where it was never reached, which does not hold unless `missing` says why it
    could not be known."""
    told = f"{bound:g}{unit}"
    if found is None:
        return Judged(what, "not known" if missing else "not reached", told, None if missing else False, missing)
    return Judged(what, f"{found:.4g}{unit}", told, found <= bound)


def line_moves(let_in: int, excuse: str) -> Judged:
    """How many came in from the line after the fault; `excuse` says why that may be nobody."""
    return Judged(
        "let in after it", str(let_in), "≥ 1", let_in > 0 or (None if excuse else False), "" if let_in else excuse
    )


def audited(audit: Mapping[str, Any] | None, untrue: Mapping[str, str], why_not: str, *, is_own: bool) -> list[Judged]:
    """A row for each invariant, and one for what was left out. `audit` is the auditor's JSON, `untrue` the claims that
    the fault makes untrue. Of a system of our own (`is_own`) everything can be read, and there was something of each
    invariant that the bounds name: what was not looked at does not hold."""
    if audit is None:
        return [Judged("audit", "not made", "0 offences", None, why_not)]
    unseen = False if is_own else None
    left_out = [
        f"{each['invariant']}: {each['why']}" for each in audit["unchecked"] if each["invariant"] not in NOT_IN_STORES
    ]
    rows = [Judged("left out by the audit", str(len(left_out)), "0", unseen, "; ".join(left_out))] if left_out else []
    return rows + _by_invariant(audit["checks"], untrue, unseen)


def _by_invariant(checks: Sequence[Mapping[str, Any]], untrue: Mapping[str, str], unseen: bool | None) -> list[Judged]:
    found: dict[str, int] = {}
    looked_at: dict[str, int] = {}
    named: dict[str, list[str]] = {}
    for check in checks:
        excused = check["claim"] in untrue
        looked_at[check["invariant"]] = looked_at.get(check["invariant"], 0) + check["checked"]
        found[check["invariant"]] = found.get(check["invariant"], 0) + (0 if excused else check["offences"])
        if check["offences"] and not excused:
            named.setdefault(check["invariant"], []).extend(check["named"][:3])
    rows = []
    for invariant, count in sorted(found.items(), key=lambda item: int(item[0][1:])):
        label = f"{invariant} {INVARIANTS[invariant]}" if invariant in INVARIANTS else invariant
        if count == 0 and looked_at[invariant] == 0 and invariant in INVARIANTS:
            rows.append(Judged(label, "0", "0", unseen, "there was nothing of it to look at"))
        else:
            rows.append(Judged(label, str(count), "0", count == 0, "; ".join(named.get(invariant, []))))
    return rows


def failures(count: int, failed: Sequence[str]) -> Judged:
    """People who gave up, or were refused what was theirs, as a share of those who came."""
    share = len(failed) / count if count else 0.0
    told = f"{len(failed)} of {count}"
    return Judged(
        "people who failed", told, f"{FAILED_SHARE_MAX:.1%}", share <= FAILED_SHARE_MAX, "; ".join(failed[:3])
    )


def holds(rows: Sequence[Judged]) -> bool:
    """True when nothing that was looked at is beyond its bound."""
    return all(row.holds is not False for row in rows)
