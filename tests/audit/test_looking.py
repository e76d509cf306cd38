"""The second look: ghosts of a moving system are not reported, what stays is."""

from collections.abc import Iterator

import pytest

from loadtest.audit import looking
from loadtest.audit.doors.ports import Heard
from loadtest.audit.looking import Judge, look
from loadtest.audit.verdict import Check
from loadtest.audit.world import Rules, World

NOW_MS = 1_000_000
EARLIER_MS, LATER_MS = NOW_MS - 1, NOW_MS + 1


@pytest.fixture(autouse=True)
def between_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "BETWEEN_LOOKS_S", 0.0)


def judging(*looks: dict[str, int]) -> Judge:
    """A judge that finds these offences, look after look; the last ones again and again."""
    left: Iterator[dict[str, int]] = iter(looks)

    def judge(last: list[dict[str, int]] = [{}]) -> tuple[World, list[Check]]:  # noqa: B006 (meant to be kept)
        last[0] = next(left, last[0])
        world = World(Rules(), {}, Heard(), {}, NOW_MS, NOW_MS)
        return world, [Check("I1", "a claim", 1, dict(last[0]))]

    return judge


def outcome(judge: Judge, **how: object) -> tuple[list[str], list[str], int]:
    """What is an offence, what is under way, and after how many looks."""
    settle_s = how.get("settle_s", 0.0)
    assert isinstance(settle_s, float)
    seen = look(judge, is_running=how.get("is_running") is not False, settle_s=settle_s)
    (finding,) = seen.findings
    return list(finding.offences), list(finding.under_way), seen.looks


def test_a_clean_system_is_looked_at_once() -> None:
    assert outcome(judging({})) == ([], [], 1)


def test_what_looked_wrong_once_is_no_offence() -> None:
    assert outcome(judging({"seat 1 with n=3": 0}, {})) == ([], [], 2)


def test_what_looks_wrong_in_other_words_has_moved_on_and_is_no_offence() -> None:
    assert outcome(judging({"seat 1 with n=3": 0}, {"seat 1 with n=4": 0})) == ([], [], 2)


def test_what_looks_wrong_twice_is_an_offence() -> None:
    assert outcome(judging({"seat 1 with n=3": 0})) == (["seat 1 with n=3"], [], 2)


def test_what_may_still_be_so_is_under_way_until_its_time() -> None:
    assert outcome(judging({"a payment": LATER_MS})) == ([], ["a payment"], 1)
    assert outcome(judging({"a payment": EARLIER_MS})) == (["a payment"], [], 2)


def test_a_system_that_does_not_run_keeps_no_deadline() -> None:
    assert outcome(judging({"a payment": EARLIER_MS}), is_running=False) == ([], ["a payment"], 1)


def test_a_system_that_settles_is_waited_for() -> None:
    moving = {"a payment": LATER_MS}
    assert outcome(judging(moving, moving, {}), settle_s=30.0) == ([], [], 3)


def test_what_does_not_settle_in_its_time_is_an_offence(monkeypatch: pytest.MonkeyPatch) -> None:
    passing = iter(range(0, 100, 10))
    monkeypatch.setattr("loadtest.audit.looking.time.monotonic", lambda: float(next(passing)))
    offences, under_way, looks = outcome(judging({"a payment": LATER_MS}), settle_s=25.0)
    assert (offences, under_way) == (["a payment"], [])
    assert looks > 2


def test_what_is_wrong_for_good_is_told_without_waiting_for_the_settling_time() -> None:
    assert outcome(judging({"a seat sold twice": 0}), settle_s=600.0) == (["a seat sold twice"], [], 2)
