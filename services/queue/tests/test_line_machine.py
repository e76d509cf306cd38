"""A line under every order of steps: joins, claims, leaves and two leaders whose ticks interleave step by step.

The machine keeps the documents in memory and runs the domain's decisions on them; each of a tick's readings is a rule
of its own, so that anything may happen between two of them. `test_leading.py` does the same to the service.
"""

from dataclasses import dataclass, replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from libs.common.tickets import Ticket
from services.queue.domain.line import (
    Census,
    LineRules,
    Returning,
    Room,
    RoomChange,
    aged,
    change_room,
    lapses_again,
    lapses_upto,
    register_return,
    take_lead,
    take_place,
    tick,
)
from services.queue.domain.visits import Session, awaits, come_back, come_in, end, expire, lapse, lapse_again

CAPACITY = 3
RULES = LineRules(
    claim_window_ms=4_000, session_ms=9_000, session_keep_ms=10**9, leader_lease_ms=3_000, clock_skew_ms=0
)
LEADERS = st.sampled_from(["a", "b"])


@dataclass
class Step:
    """How far a leader's tick has got."""

    read: Room
    now_ms: int
    census: Census | None = None
    is_counted: bool = False


class LineMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 1_000_000
        self.room = Room(1, CAPACITY)
        self.sessions: dict[int, Session] = {}
        self.steps: dict[str, Step] = {}
        self.watermark = 0
        self.first_offers: list[int] = []

    @rule()
    def join(self) -> None:
        decision = take_place(self.room)
        assert decision.state is not None
        assert decision.result == self.room.issued + 1
        self.room = decision.state

    @rule(seconds=st.integers(1, 5))
    def time_passes(self, seconds: int) -> None:
        self.now_ms += seconds * 1_000

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        self.room = change_room(self.room, RoomChange(state="paused" if paused else "open")).result[1]

    @precondition(lambda self: self.room.watermark > 0)
    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        sequence = data.draw(st.integers(1, self.room.watermark))
        ticket, found = Ticket("t", 1, sequence), self.sessions.get(sequence)
        if found is None:
            self.sessions[sequence] = come_in(ticket, self.now_ms + RULES.session_ms, self.now_ms)
            return
        if found.state != "lapsed":
            return
        registered = register_return(self.room, sequence, found.round)
        self.room = registered.state or self.room
        entry = registered.result
        if entry is not None and entry.offered_ms is not None:
            until_ms = self.now_ms + RULES.session_ms
            returned = come_back(found, ticket, entry.round, until_ms, self.now_ms)
            self.sessions[sequence] = returned.state or found

    @precondition(lambda self: self.room.issued > 0)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        sequence = data.draw(st.integers(1, self.room.issued))
        ended, _ = end(self.sessions.get(sequence), Ticket("t", 1, sequence), "left", self.now_ms, self.now_ms).result
        self.sessions[sequence] = ended

    @rule()
    def sweep(self) -> None:
        for sequence, session in self.sessions.items():
            self.sessions[sequence] = expire(session, self.now_ms, self.now_ms).state or session

    @rule(leader=LEADERS)
    def step_in_and_read(self, leader: str) -> None:
        if self.room.leader != leader:
            led = take_lead(self.room, leader, self.room).result
            assert led is not None
            self.room = led
        self.steps[leader] = Step(self.room, self.now_ms)

    @rule(leader=LEADERS)
    def count_offers(self, leader: str) -> None:
        step = self.steps.get(leader)
        if step is None or step.census is not None:
            return
        room = aged(step.read, step.now_ms, RULES)
        settled = lapses_upto(room, step.now_ms, RULES)
        for sequence in range(room.settled + 1, settled + 1):
            self.sessions.setdefault(sequence, lapse(1, sequence, step.now_ms))
        offered = [entry for entry in room.returning if entry.offered_ms is not None]
        for entry in offered:
            if lapses_again(entry, step.now_ms, RULES):
                self._lapse_again(entry, step.now_ms)
        awaited = [entry for entry in offered if awaits(self.sessions.get(entry.sequence), entry.round)]
        unclaimed = [n for n in range(settled + 1, room.watermark + 1) if n not in self.sessions]
        step.census = Census(
            settled=settled,
            floor=0,
            unclaimed=len(unclaimed) + len(awaited),
            open_sessions=0,
            answered=frozenset((entry.sequence, entry.round) for entry in offered if entry not in awaited),
            gone=tuple(sorted(n for n in self.sessions if n > room.watermark)),
        )

    @rule(leader=LEADERS)
    def count_sessions(self, leader: str) -> None:
        step = self.steps.get(leader)
        if step is not None and step.census is not None and not step.is_counted:
            step.census = replace(step.census, open_sessions=len(self._inside(step.now_ms)))
            step.is_counted = True

    @rule(leader=LEADERS)
    def admit(self, leader: str) -> None:
        step = self.steps.get(leader)
        if step is None or step.census is None or not step.is_counted:
            return
        del self.steps[leader]
        decision = tick(self.room, step.read, step.census, step.now_ms, RULES)
        if decision.state is not None:
            self.first_offers.extend(range(self.room.watermark + 1, decision.state.watermark + 1))
            self.room = decision.state

    @rule(leader=LEADERS)
    def tick_at_once(self, leader: str) -> None:
        self.step_in_and_read(leader)
        self.count_offers(leader)
        self.count_sessions(leader)
        self.admit(leader)

    def _lapse_again(self, entry: Returning, now_ms: int) -> None:
        found = self.sessions[entry.sequence]
        self.sessions[entry.sequence] = lapse_again(found, entry.round, now_ms).state or found

    def _inside(self, now_ms: int) -> list[Session]:
        return [s for s in self.sessions.values() if s.state == "open" and (s.until_ms or 0) > now_ms]

    @invariant()
    def no_more_than_the_capacity(self) -> None:
        unanswered = [n for n in range(self.room.settled + 1, self.room.watermark + 1) if n not in self.sessions]
        awaited = [
            entry
            for entry in self.room.returning
            if entry.offered_ms is not None and awaits(self.sessions.get(entry.sequence), entry.round)
        ]
        assert len(self._inside(self.now_ms)) + len(unanswered) + len(awaited) <= CAPACITY

    @invariant()
    def the_line_moves_forward_in_order(self) -> None:
        assert self.watermark <= self.room.watermark <= self.room.issued
        assert self.first_offers == list(range(1, self.room.watermark + 1))
        assert self.room.settled <= self.room.watermark
        assert all(sequence in self.sessions for sequence in range(1, self.room.settled + 1))
        self.watermark = self.room.watermark

    @invariant()
    def the_offers_reach_to_the_watermark(self) -> None:
        uptos = [offer.upto for offer in self.room.offers]
        assert uptos == sorted(set(uptos))
        assert (uptos[-1] if uptos else self.room.settled) == self.room.watermark
        assert [entry.sequence for entry in self.room.returning] == sorted(e.sequence for e in self.room.returning)


LineMachine.TestCase.settings = settings(
    max_examples=100, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)
TestLine = LineMachine.TestCase
