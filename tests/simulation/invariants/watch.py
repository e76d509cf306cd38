"""What is checked while a run goes on: every commit and every publish passes through here."""

from collections.abc import Container
from typing import Any

import structlog

from libs.common.clock import Clock
from libs.common.messaging.ports import Message
from tests.simulation.history import History
from tests.simulation.invariants.findings import Findings
from tests.simulation.invariants.ledger import LedgerWatch
from tests.simulation.invariants.line import LineWatch
from tests.simulation.invariants.sale import SaleWatch
from tests.simulation.storing import Commit


class Watch:
    """All checkers of one run. `clocks_are_bounded`: no clock leaves the error that CLOCK_SKEW_S promises."""

    def __init__(
        self, clock: Clock, history: History, knobs: dict[str, Any], *, clocks_are_bounded: bool = True
    ) -> None:
        self._clock = clock
        self._history = history
        self.findings = Findings(history)
        self.sale = SaleWatch(
            self.findings,
            clock,
            seats_max=int(knobs["max_seats_per_user"]),
            skew_ms=round(knobs["clock_skew_s"] * 1000),
            clocks_are_bounded=clocks_are_bounded,
        )
        self.ledger = LedgerWatch(self.findings, self.sale.reservations, self.sale.net_charged)
        self.line = LineWatch(self.findings, clocks_are_bounded=clocks_are_bounded)
        self.seats_moved_s = 0.0
        self._told: dict[str, None] = {}
        self._published: set[str] = set()

    def committed(self, commit: Commit) -> None:
        """Check a write against what was known before it."""
        now_ms = self._clock.now_ms()
        self._told.update((event.id, None) for event in commit.events)
        after = commit.after
        self._history.add("commit", f"{commit.collection}/{commit.id}", _brief(commit))
        match commit.collection:
            case "blocks":
                self.seats_moved_s = self._clock.monotonic_s()
                self.sale.block(after, now_ms)
            case "reservations":
                self.sale.reservation(commit.before, after, now_ms, [event.type for event in commit.events])
                if commit.before is None:
                    self.line.hold(after)
            case "entries":
                self.ledger.entry(commit.before, after, now_ms)
            case "rooms":
                self.line.room(commit.before, after, now_ms)
            case "sessions":
                self.line.session(commit.before, after, now_ms)

    def published(self, message: Message) -> None:
        """I10: nothing is told that was not committed."""
        self._published.add(message.id)
        self.findings.check(
            message.id in self._told, "I10", f"{message.type} {message.id} tells of no commit", (message.key,)
        )

    def check_told(self, waiting: Container[str]) -> None:
        """I10: everything that was committed has been told, but for what waits in an outbox."""
        lost = [id_ for id_ in self._told if id_ not in self._published and id_ not in waiting]
        self.findings.check(not lost, "I10", f"never told: {lost}"[:500])

    def said(self, event: structlog.typing.EventDict) -> None:
        """A service has written a line that says it is broken."""
        self.findings.add("errors", f"{event.get('event')}: {event.get('exception', event)}"[:2000])


def _brief(commit: Commit) -> str:
    body, told = commit.after, ",".join(event.type for event in commit.events)
    match commit.collection:
        case "blocks":
            touched = " ".join(f"{row[0]}={row[1]}{row[2]}:{(row[3] or '')[:10]}" for row in body["seats"])
            return f"{touched} {told}"
        case "reservations":
            return f"{body['status']} owes={body['owes']} attempts={len(body['attempts'])} {told}"
        case "entries":
            return f"{body['op']} {body['kind']} {body['amount']} → {body['balance_after']} {told}"
        case "rooms":
            returning = [entry[:2] for entry in body["returning"]]
            return (
                f"issued={body['issued']} watermark={body['watermark']} settled={body['settled']} "
                f"leader={body['leader']} fence={body['fence']} tick={body['tick']} returning={returning}"
            )
        case "sessions":
            return f"{body['state']} round={body['round']} {told}"
    return told
