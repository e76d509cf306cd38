"""Every alert can fire, stays quiet when it should, and leads to a page that says what to do."""

import re
from typing import Any

import pytest
import yaml

from infra.grafana.series import SERVICES
from infra.prometheus.tests.promql import ROOT, RULES, promtool, strangers

FOLDER = ROOT / "infra/prometheus"
CASES = sorted((FOLDER / "tests").glob("*.yml"))
PAGES = ROOT / "docs/runbooks"
SECTIONS = ["Symptom", "See it", "Likely causes", "Act", "Verify"]
CONFIG = yaml.safe_load((FOLDER / "prometheus.yml").read_text())


def rules() -> list[dict[str, Any]]:
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}


def test_prometheus_loads_every_file_of_rules_and_names_the_services_as_the_rules_do() -> None:
    assert [path for pattern in CONFIG["rule_files"] for path in sorted(FOLDER.glob(pattern))] == RULES
    assert {job["job_name"] for job in CONFIG["scrape_configs"]} == {*SERVICES, "prometheus"}


def test_no_two_alerts_share_a_name_and_each_has_its_page() -> None:
    assert len(ALERTS) == sum("alert" in rule for rule in rules())
    assert {path.stem for path in PAGES.glob("*.md")} == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_what_happens_and_where_to_read_on(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in ("page", "ticket")
    told = alert["annotations"]
    assert set(told) == {"summary", "description", "runbook_url"}
    assert told["summary"]
    assert told["description"].endswith(".")
    assert told["runbook_url"] == f"docs/runbooks/{name}.md"


@pytest.mark.parametrize("name", ALERTS)
def test_a_page_has_the_sections_that_somebody_in_a_hurry_looks_for(name: str) -> None:
    page = (PAGES / f"{name}.md").read_text()
    assert page.startswith(f"# {name}\n")
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == SECTIONS
    bodies = re.split(r"^## .+$", page, flags=re.MULTILINE)[1:]
    assert [body for body in bodies if len(body.split()) < 5] == []


def test_every_make_target_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    pages = [*PAGES.glob("*.md"), ROOT / "docs/operations.md"]
    named = {target for page in pages for target in re.findall(r"`make ([a-z-]+)", page.read_text())}
    assert named - targets == set()


def test_the_operations_page_leads_from_every_alert_to_its_page() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    assert [name for name in ALERTS if f"[{name}](runbooks/{name}.md)" not in page] == []


def test_rules_use_only_series_and_labels_that_exist() -> None:
    assert {found: rule["expr"] for rule in rules() for found in strangers(rule["expr"])} == {}


def test_every_alert_is_seen_to_fire_and_to_stay_quiet() -> None:
    cases = [case for path in CASES for case in yaml.safe_load(path.read_text())["tests"]]
    expected = [(check["expr"], bool(check["exp_samples"])) for case in cases for check in case["promql_expr_test"]]
    seen = {(name, fired) for name in ALERTS for expr, fired in expected if f'alertname="{name}"' in expr}
    assert seen == {(name, fired) for name in ALERTS for fired in (True, False)}


def test_promtool_takes_the_configuration_and_every_rule() -> None:
    promtool("check", "config", "infra/prometheus/prometheus.yml")


def test_every_alert_fires_and_stays_quiet_as_its_cases_say() -> None:
    promtool("test", "rules", *map(str, CASES))
