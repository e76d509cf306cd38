"""The time of the last outcome, as documents of a run tell it."""

import pytest

from loadtest.chaos.settling import last_outcome_ms

ENDED_MS = 1_000_000
DEADLINE_MS = 30_000
READ_MS = ENDED_MS + 80_000


def attempt(began_ms: int, settled_ms: int | None) -> dict[str, int | None]:
    return {"deadline_ms": began_ms + DEADLINE_MS, "settled_ms": settled_ms}


@pytest.mark.parametrize(
    ("attempts", "last_ms"),
    [
        ([], 0),
        ([attempt(ENDED_MS - 10, ENDED_MS + 7_000), attempt(ENDED_MS - 5, ENDED_MS + 3_000)], ENDED_MS + 7_000),
        ([attempt(ENDED_MS - 10, None)], 0),
        ([attempt(ENDED_MS + 1, ENDED_MS + 9_000)], 0),
        ([attempt(ENDED_MS - 10, ENDED_MS + 70_000)], ENDED_MS + 70_000),
    ],
    ids=["none", "the last one", "without an outcome", "begun after the fault", "late"],
)
def test_the_last_outcome_of_what_had_begun_by_the_end_of_the_fault(
    attempts: list[dict[str, int | None]], last_ms: int
) -> None:
    bodies = [{"attempts": [one]} for one in attempts]
    assert last_outcome_ms(bodies, ENDED_MS + DEADLINE_MS, READ_MS) == last_ms


def test_an_outcome_that_a_clock_an_hour_ahead_wrote_was_known_while_the_fault_lasted() -> None:
    ahead_ms = 3_600_000
    bodies = [{"attempts": [attempt(ENDED_MS - 20_000, ENDED_MS - 12_000 + ahead_ms)]}]
    assert last_outcome_ms(bodies, ENDED_MS + DEADLINE_MS, READ_MS) == 0
