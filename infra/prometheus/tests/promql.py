"""What tests of rules and of dashboards ask of an expression; Prometheus's own programs answer where they are there."""

import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

from infra.grafana.series import catalogue
from infra.native.provision import parts

ROOT = Path(__file__).parents[3]
RULES = sorted((ROOT / "infra/prometheus/rules").glob("*.yml"))
PROMTOOL_S = 60.0

_NAMES = re.compile(r"\b(?:stagedoor_\w+|process_\w+|journey:\w+:\w+|up)\b")
_MATCHED = re.compile(r"\b(stagedoor_\w+|process_\w+|up)\{([^}]*)\}")
_LABELS = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")


def program(name: str) -> Path:
    """`prometheus` or `promtool`, from PATH or the cache of `infra/native`; skips the test where it is not there."""
    where, missing = _folder()
    if where:
        return Path(where) / name
    if os.environ.get("REQUIRE_REAL") == "1":
        pytest.fail(f"REQUIRE_REAL=1 and no {name}: {missing}")
    pytest.skip(f"no {name}: {missing}")


@cache
def _folder() -> tuple[str, str]:
    (part,) = (part for part in parts() if "promtool" in part.name)
    return part.where, part.missing


def promtool(*arguments: str) -> None:
    """Fails the test with what promtool says is wrong."""
    done = subprocess.run(
        [str(program("promtool")), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PROMTOOL_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def parse_all(expressions: Iterable[str], folder: Path) -> None:
    """Fails the test when one is not PromQL."""
    window = [expression.replace("$__rate_interval", "1m") for expression in expressions]
    rules = [{"record": f"expression:{number}", "expr": expression} for number, expression in enumerate(window)]
    file = folder / "expressions.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "expressions", "rules": rules}]}))
    promtool("check", "rules", str(file))


def strangers(expression: str) -> Iterator[str]:
    """Every series that no service exports and no rule records, and every label matched that its series has not."""
    for name in _NAMES.findall(expression):
        if _base(name) not in catalogue() and name not in recorded():
            yield name
    for name, matchers in _MATCHED.findall(expression):
        series = catalogue().get(_base(name))
        has = {"job", "instance", "le", *(series.labels if series else ())}
        yield from (f"{name}{{{label}}}" for label in _LABELS.findall(_unquoted(matchers)) if label not in has)


@cache
def recorded() -> frozenset[str]:
    """The names of all recording rules."""
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return frozenset(rule["record"] for group in groups for rule in group["rules"] if "record" in rule)


def _base(name: str) -> str:
    ended = re.sub(r"_(?:bucket|count|sum)$", "", name)
    return ended if ended in catalogue() and catalogue()[ended].kind == "histogram" else name


def _unquoted(matchers: str) -> str:
    return re.sub(r'"[^"]*"', '""', matchers)
