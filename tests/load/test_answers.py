"""An answer means the same, whichever engine made the load."""

import json
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.answers import PEOPLES_BUSINESS, SHED, is_success, meaning
from loadtest.arrivals import Ramp
from loadtest.engines.k6 import K6
from loadtest.fresh_system import ROOT
from loadtest.plan import Plan
from loadtest.tally import Tally
from tests.load.stub import Quiet, serving

ANSWERS = (
    (201, "X"), (402, "NOT_ENOUGH_POINTS"), (402, "X"), (403, "STILL_WAITING"), (409, "SEAT_TAKEN"),
    (409, "HOLD_EXPIRED"), (409, "ALREADY_PAID"), (410, "X"), (418, "X"), (422, "TOO_MANY_SEATS"),
    (422, "INVALID_FIELD"), (429, "RATE_LIMITED"), (500, "INTERNAL"), (503, "OVERLOADED"),
)  # fmt: skip
RUN_S = 60.0

SCRIPT = """
import http, { post } from 'k6/http';
const urls = %s.map(([status, code]) => `${__ENV.BASE_URL}/${status}/${code}`);
export const options = { discardResponseBodies: true };
export default async function () {
  urls.forEach((url) => http.get(url));
  urls.forEach((url) => post(url, 'x'));
  http.batch(urls.map((url) => ['GET', url]));
  await Promise.all(urls.map((url) => http.asyncRequest('GET', url)));
}
"""
WAYS = 4
"""In which the script asks for each answer."""


class AsAsked(Quiet):
    """Answers with the status and the code that the path names."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self) -> None:  # noqa: N802 (the names are those of http.server)
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, code = self.path.strip("/").split("/")
        body = json.dumps({"code": code}).encode()
        self.send_response(int(status))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 (the names are those of http.server)


@pytest.fixture
def url() -> Iterator[str]:
    with serving(AsAsked) as where:
        yield where


def test_both_engines_are_told_the_same_codes_and_statuses() -> None:
    script = (ROOT / "loadtest/k6/answers.js").read_text()
    lists = dict(re.findall(r"^const (\w+) = \[(.*)\];$", script, re.MULTILINE))
    assert lists["PEOPLES_BUSINESS"].replace("'", "").split(", ") == list(PEOPLES_BUSINESS)
    assert [int(status) for status in lists["SHED"].split(", ")] == list(SHED)


@pytest.mark.parametrize(
    ("status", "code", "counter"),
    [
        (409, "SEAT_TAKEN", "outcomes"),
        (422, "TOO_MANY_SEATS", "outcomes"),
        (409, "ALREADY_PAID", "failures"),
        (422, "INVALID_FIELD", "failures"),
        (410, None, "failures"),
        (503, None, "refused"),
        (0, None, "failures"),
    ],
)
def test_a_refusal_is_judged_by_its_code_and_what_was_shed_by_its_status(
    status: int, code: str | None, counter: str
) -> None:
    assert meaning(status, code) == counter
    assert hasattr(Tally(), counter)


@pytest.mark.skipif(shutil.which("k6") is None, reason="k6 is not on PATH")
def test_k6_counts_every_request_of_anybody_s_script_as_locust_would(url: str, tmp_path: Path) -> None:
    script = tmp_path / "script.js"
    script.write_text(SCRIPT % json.dumps(ANSWERS))
    plan = Plan("booking", (Ramp(1.0, 5.0), Ramp(3.0, 5.0)), 1, 1, 10.0, False, 1, "", None)
    run = K6("booking", script).start(plan, url, tmp_path)
    give_up_s = time.monotonic() + RUN_S
    while run.is_running() and time.monotonic() < give_up_s:
        time.sleep(0.05)
    seen, samples = run.finish(), run.samples()
    iterations = seen.counts["completed"]
    assert iterations
    wanted = Counter(meaning(*answer) for answer in ANSWERS if not is_success(answer[0]))
    for counter, count in wanted.items():
        assert getattr(seen, counter).total() == count * WAYS * iterations, counter
        # What comes after the last whole stretch is in no sample.
        assert 0 < sum(getattr(sample, counter) for sample in samples) <= count * WAYS * iterations, counter
    assert seen.outcomes == dict.fromkeys(PEOPLES_BUSINESS, WAYS * iterations)
    assert seen.failures["status 410"] == seen.failures["another kind"] == WAYS * iterations
