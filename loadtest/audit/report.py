"""An audit as a table for people, and as JSON for machines."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from loadtest.audit.looking import Finding, Seen
from loadtest.audit.verdict import Unchecked

NAMED_COUNT = 3
NAMED_IN_JSON_COUNT = 50


@dataclass(frozen=True, slots=True)
class Report:
    seen: Seen
    unchecked: Sequence[Unchecked]
    took_s: float

    @property
    def findings(self) -> list[Finding]:
        """By invariant, in the order of their numbers."""
        return sorted(self.seen.findings, key=lambda finding: int(finding.check.invariant[1:]))

    def as_table(self) -> Group:
        table = Table("", "claim", "checked", "offences", "under way")
        for finding in self.findings:
            count = len(finding.offences)
            claim = Text(finding.check.claim)
            for sentence in finding.offences[:NAMED_COUNT]:
                claim.append(f"\n  {sentence}", style="red")
            if count > NAMED_COUNT:
                claim.append(f"\n  … and {count - NAMED_COUNT} more", style="red")
            marks = Text(str(count), style="bold red" if count else "")
            table.add_row(finding.check.invariant, claim, f"{finding.check.count:,}", marks, _or_none(finding))
        unchecked = [Text(f"not checked: {each.invariant}: {each.why}") for each in self.unchecked]
        return Group(table, *unchecked, Text(self.summary))

    @property
    def summary(self) -> str:
        documents, looks = self.seen.world.documents, self.seen.looks
        counts = f"{len(documents['reservations']):,} reservations, {len(documents['entries']):,} entries"
        count = self.seen.offence_count
        verdict = "no offence" if count == 0 else "1 offence" if count == 1 else f"{count:,} offences"
        return f"{verdict} in {counts}; {looks} look{'s' * (looks > 1)}, {self.took_s:.1f} s"

    def as_json(self) -> dict[str, Any]:
        documents = self.seen.world.documents
        return {
            "offences": self.seen.offence_count,
            "checks": [
                {
                    "invariant": finding.check.invariant,
                    "claim": finding.check.claim,
                    "checked": finding.check.count,
                    "offences": len(finding.offences),
                    "underWay": len(finding.under_way),
                    "named": list(finding.offences[:NAMED_IN_JSON_COUNT]),
                }
                for finding in self.findings
            ],
            "unchecked": [{"invariant": each.invariant, "why": each.why} for each in self.unchecked],
            "documents": {name: len(found) for name, found in documents.items()},
            "looks": self.seen.looks,
            "tookS": round(self.took_s, 2),
        }


def _or_none(finding: Finding) -> str:
    return f"{len(finding.under_way):,}" if finding.under_way else ""
