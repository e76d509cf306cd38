"""What the system and the generator do while the load runs: CPU and memory by process, and the services' own series.

One reading every few seconds, over the loopback and /proc. A process or a page that does not answer is left out of that
reading: under overload that happens, and the load goes on.
"""

import math
import re
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.client import HTTPException
from pathlib import Path

import psutil

from infra.local.control import ask
from infra.local.settings import METRICS_PORTS
from infra.local.system import control_socket
from libs.common.errors import ConfigError

SCRAPE_TIMEOUT_S = 2.0

SUMMED = {
    "waiting": "stagedoor_queue_waiting_people",
    "inside": "stagedoor_queue_open_sessions",
    "offered": "stagedoor_queue_unclaimed_offers",
    "held_back": "stagedoor_queue_held_back",
    "outbox_pending": "stagedoor_outbox_pending_events",
    "lag": "stagedoor_consumer_lag_events",
    "paying": "stagedoor_reservation_waiting_callers",
    "due": "stagedoor_reservation_due_reservations",
    "in_flight": "stagedoor_gateway_in_flight_requests",
}
LARGEST = {"outbox_age_s": "stagedoor_outbox_oldest_seconds"}
SETTLE = "stagedoor_reservation_settle_seconds_bucket"

_LINE = re.compile(r"^(stagedoor_\w+)(?:\{(.*)\})? (\S+)", re.MULTILINE)
_LE = re.compile(r'\ble="([^"]+)"')


@dataclass(frozen=True, slots=True)
class Reading:
    """`at_s` is s since the epoch, or since the begin of the load. `cpu` is the share of one core since the reading
    before, `cpu_s` seconds since the process began. `series` has the names of `SUMMED` and `LARGEST`, and the p95 of
    what settled since the reading before as `settle_p95_s`."""

    at_s: float
    cpu: Mapping[str, float] = field(default_factory=dict)
    cpu_s: Mapping[str, float] = field(default_factory=dict)
    rss_mb: Mapping[str, float] = field(default_factory=dict)
    series: Mapping[str, float] = field(default_factory=dict)


class Watch:
    """Readings of the system in `state_dir` at `port`; without one, of the generator's processes alone."""

    def __init__(self, state_dir: Path | None, port: int) -> None:
        self._state_dir = state_dir
        self._pages = (
            [f"http://127.0.0.1:{port + offset}/metrics" for offset in METRICS_PORTS.values()] if state_dir else []
        )
        self._settled: dict[float, float] = {}
        self._before: Mapping[str, float] = {}
        self._before_s = 0.0
        self._readings: list[Reading] = []

    def read(self, generator: Mapping[str, psutil.Process]) -> None:
        """Take the next reading."""
        processes = {**self._system(), **generator}
        cpu_s, rss_mb = {}, {}
        for name, process in processes.items():
            with suppress(psutil.Error), process.oneshot():
                times = process.cpu_times()
                cpu_s[name], rss_mb[name] = times.user + times.system, process.memory_info().rss / 2**20
        now = time.monotonic()
        span_s, self._before_s = now - self._before_s, now
        cpu = {
            name: max(0.0, spent_s - self._before[name]) / span_s
            for name, spent_s in cpu_s.items()
            if name in self._before
        }
        self._before = cpu_s
        self._readings.append(Reading(time.time(), cpu, cpu_s, rss_mb, self._series()))

    def readings(self, began_s: float) -> list[Reading]:
        """All since the begin of the load (in s since the epoch), in s after it. The first is the last from before:
        where everything stood, without the CPU that it took to get there."""
        early = sum(1 for reading in self._readings if reading.at_s <= began_s)
        found = [replace(reading, at_s=reading.at_s - began_s) for reading in self._readings[max(0, early - 1) :]]
        return [replace(reading, at_s=0.0, cpu={}) for reading in found[:1]] + found[1:]

    def _system(self) -> dict[str, psutil.Process]:
        if self._state_dir is None:
            return {}
        found = {}
        with suppress(ConfigError, OSError):
            for row in ask(control_socket(self._state_dir), "status")["services"]:
                with suppress(psutil.Error):
                    if row["pid"]:
                        found[row["name"]] = psutil.Process(row["pid"])
        return found

    def _series(self) -> dict[str, float]:
        pages = []
        for url in self._pages:
            with suppress(OSError, HTTPException), urllib.request.urlopen(url, timeout=SCRAPE_TIMEOUT_S) as answer:  # noqa: S310 (loopback)
                pages.append(answer.read().decode())
        if not pages:
            return {}
        series, settled = read_pages(pages)
        series["settle_p95_s"] = settled_p95(settled, self._settled)
        self._settled = settled
        return series


def read_pages(pages: Iterable[str]) -> tuple[dict[str, float], dict[float, float]]:
    """Our series out of some pages of metrics, and the classes of the time to settle (upper bound → count up to it)."""
    wanted = {series: name for name, series in (SUMMED | LARGEST).items()}
    found: dict[str, float] = {}
    settled: dict[float, float] = defaultdict(float)
    for page in pages:
        for series, labels, text in _LINE.findall(page):
            if series == SETTLE:
                bound = _LE.search(labels)
                if bound:
                    settled[float(bound[1])] += float(text)
            elif series in wanted:
                name, value = wanted[series], float(text)
                found[name] = max(found.get(name, 0.0), value) if name in LARGEST else found.get(name, 0.0) + value
    return found, dict(settled)


def settled_p95(now: Mapping[float, float], before: Mapping[float, float]) -> float:
    """The upper bound of the class in which the 95th of 100 lies that settled in between; the lower one of the class
    that has no upper; NaN when none settled."""
    new = {bound: count - before.get(bound, 0.0) for bound, count in sorted(now.items())}
    total = max(new.values(), default=0.0)
    if not total:
        return math.nan
    longest = max((bound for bound in new if not math.isinf(bound)), default=math.nan)
    return next((bound for bound, count in new.items() if count >= 0.95 * total and not math.isinf(bound)), longest)


def largest(readings: Sequence[Reading], name: str) -> float:
    """The largest value of a series; NaN where it has none."""
    values = (reading.series.get(name, math.nan) for reading in readings)
    return max((value for value in values if not math.isnan(value)), default=math.nan)
