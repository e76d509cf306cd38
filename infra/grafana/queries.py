"""PromQL in few words. Each function checks series, type and labels against the catalogue, and raises ConfigError.

`by` are label names with spaces between; a value to match is exact, or a regular expression after `~` or `!~`.
"""

from dataclasses import dataclass

from infra.grafana.series import Series, catalogue
from libs.common.errors import ConfigError

WINDOW = "$__rate_interval"
"""Grafana puts a window here that holds at least four scrapes, and more where a panel shows days."""

_OF_TARGETS = ("job", "instance")


@dataclass(frozen=True, slots=True)
class Query:
    """`says` is what its series means, in the words of the catalogue."""

    expr: str
    says: str = ""


def rate(name: str, by: str = "", **match: str) -> Query:
    """How often per second a counter grew, or how many a histogram took."""
    series = _known(name, ("counter", "histogram"), by, match)
    counted = f"{name}_count" if series.kind == "histogram" else name
    return Query(f"sum{_by(by)} (rate({counted}{_braces(match)}[{WINDOW}]))", series.says)


def grown(name: str, window: str, by: str = "", **match: str) -> Query:
    """By how much a counter grew in a window of its own, such as `10m`."""
    series = _known(name, ("counter",), by, match)
    return Query(f"sum{_by(by)} (increase({name}{_braces(match)}[{window}]))", series.says)


def total(name: str, by: str = "", **match: str) -> Query:
    """What a counter has counted since its copies began."""
    series = _known(name, ("counter",), by, match)
    return Query(f"sum{_by(by)} ({name}{_braces(match)})", series.says)


def level(name: str, how: str = "max", by: str = "", **match: str) -> Query:
    """How a gauge stands: `max`, `min` or `sum` over all copies."""
    series = _known(name, ("gauge",), by, match)
    return Query(f"{how}{_by(by)} ({name}{_braces(match)})", series.says)


def quantile(share: float, name: str, by: str = "", **match: str) -> Query:
    """What this share of a histogram's values stayed under."""
    series = _known(name, ("histogram",), by, match)
    buckets = f"sum{_by(f'le {by}')} (rate({name}_bucket{_braces(match)}[{WINDOW}]))"
    return Query(f"histogram_quantile({share}, {buckets})", series.says)


def mean(name: str, by: str = "", **match: str) -> Query:
    """The average of a histogram's values."""
    series = _known(name, ("histogram",), by, match)
    total, count = (f"sum{_by(by)} (rate({name}_{part}{_braces(match)}[{WINDOW}]))" for part in ("sum", "count"))
    return Query(f"{total} / {count}", series.says)


def ratio(part: Query, whole: Query) -> Query:
    """One query over another that has the same labels."""
    return Query(f"{part.expr} / {whole.expr}", part.says)


def minus(whole: Query, *parts: Query) -> Query:
    """What is left of a query when others with the same labels are taken away."""
    return Query(" - ".join(query.expr for query in (whole, *parts)), whole.says)


def _known(name: str, kinds: tuple[str, ...], by: str, match: dict[str, str]) -> Series:
    series = catalogue().get(name)
    if series is None:
        raise ConfigError(f"{name}: no service exports such a series")
    if series.kind not in kinds:
        raise ConfigError(f"{name} is a {series.kind}; this takes a {' or a '.join(kinds)}")
    strange = {*by.split(), *match} - {*series.labels, *_OF_TARGETS}
    if strange:
        raise ConfigError(f"{name} has no label {', '.join(sorted(strange))}; it has {', '.join(series.labels)}")
    return series


def _by(labels: str) -> str:
    return f" by ({', '.join(labels.split())})" if labels.split() else ""


def _braces(match: dict[str, str]) -> str:
    return "{" + ", ".join(f"{label}{_matcher(value)}" for label, value in match.items()) + "}" if match else ""


def _matcher(value: str) -> str:
    for mark, operator in (("!~", "!~"), ("~", "=~")):
        if value.startswith(mark):
            return f'{operator}"{value.removeprefix(mark)}"'
    return f'="{value}"'
