"""The committed dashboards are what the generator writes, Grafana can draw them, and they show what exists."""

import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from infra.grafana.__main__ import FOLDER, files
from infra.grafana.panels import SOURCE
from infra.grafana.queries import level, quantile, rate
from infra.grafana.series import SERVICES, catalogue
from infra.prometheus.tests.promql import ROOT, parse_all, strangers
from libs.common.errors import ConfigError

COLUMNS = 24
DASHBOARDS: dict[str, Any] = {name.removesuffix(".json"): orjson.loads(content) for name, content in files().items()}


def panels(name: str) -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARDS[name]["panels"] if panel["type"] != "row"]


def expressions(name: str) -> Iterator[str]:
    return (target["expr"] for panel in panels(name) for target in panel["targets"])


def test_the_committed_files_are_what_the_generator_writes() -> None:
    committed = {path.name: path.read_bytes() for path in FOLDER.iterdir()}
    assert committed == files(), "run: python -m infra.grafana"


def test_grafana_is_told_to_read_this_folder_and_this_source() -> None:
    (provider,) = yaml.safe_load((FOLDER.parent / "provisioning/dashboards/stagedoor.yml").read_text())["providers"]
    (source,) = yaml.safe_load((FOLDER.parent / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert Path(provider["options"]["path"]).parts[-2:] == FOLDER.parts[-2:]
    assert {"type": source["type"], "uid": source["uid"]} == SOURCE


def test_there_is_one_for_each_service_one_for_events_one_for_the_sale_and_one_to_begin_with() -> None:
    assert set(DASHBOARDS) == {"overview", "sale", "events", *SERVICES}
    page = (ROOT / "docs/operations.md").read_text()
    assert [board["title"] for board in DASHBOARDS.values() if board["title"].split(" / ")[1] not in page] == []


def test_uids_and_ids_are_unique() -> None:
    assert len({board["uid"] for board in DASHBOARDS.values()}) == len(DASHBOARDS)
    for board in DASHBOARDS.values():
        ids = [panel["id"] for panel in board["panels"]]
        assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_do_not_overlap_and_fit_the_page(name: str) -> None:
    places = [(panel["title"], panel["gridPos"]) for panel in DASHBOARDS[name]["panels"]]
    for (title, one), (other_title, other) in combinations(places, 2):
        apart = any(one[at] + one[size] <= other[at] or other[at] + other[size] <= one[at] for at, size in ("xw", "yh"))
        assert apart, f"{title} lies over {other_title}"
    assert [title for title, place in places if place["x"] + place["w"] > COLUMNS] == []


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_panel_has_a_title_a_unit_a_description_and_the_source_that_is_provisioned(name: str) -> None:
    for panel in panels(name):
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert len(panel["description"]) > 10, panel["title"]
        assert [target["datasource"] for target in panel["targets"]] == [SOURCE] * len(panel["targets"])
        assert panel["datasource"] == SOURCE


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_series_exists_and_every_legend_names_a_label_that_is_left(name: str) -> None:
    for panel in panels(name):
        for target in panel["targets"]:
            assert list(strangers(target["expr"])) == []
            grouped = {label for group in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in group.split(", ")}
            named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert named <= grouped | {"journey"}, (panel["title"], target["legendFormat"])


def test_every_panel_that_an_operators_page_names_is_drawn() -> None:
    pages = [ROOT / "docs/operations.md", *(ROOT / "docs/runbooks").glob("*.md")]
    drawn = {panel["title"] for board in DASHBOARDS.values() for panel in board["panels"]} | {"Overview", "General"}
    named = {
        (page.stem, title)
        for page in pages
        for title in re.findall(r"(?<!\*)\*([A-Z][^*\n]+)\*(?!\*)", page.read_text())
    }
    assert [(page, title) for page, title in named if title not in drawn] == []


@pytest.mark.parametrize("service", SERVICES)
def test_every_series_of_a_service_is_drawn_somewhere(service: str) -> None:
    drawn = "\n".join(expression for name in DASHBOARDS for expression in expressions(name))
    own = [series.name for series in catalogue().values() if service in series.services]
    assert [name for name in own if not re.search(rf"\b{name}(?:_bucket|_count|_sum)?\b", drawn)] == []


def test_every_expression_is_promql(tmp_path: Path) -> None:
    parse_all((expression for name in DASHBOARDS for expression in expressions(name)), tmp_path)


def test_a_query_for_what_no_service_exports_is_refused() -> None:
    with pytest.raises(ConfigError, match="stagedoor_queue_joined_total: no service exports"):
        rate("stagedoor_queue_joined_total")
    with pytest.raises(ConfigError, match="is a counter; this takes a gauge"):
        level("stagedoor_queue_joins_total")
    with pytest.raises(ConfigError, match="has no label reason; it has room"):
        rate("stagedoor_queue_joins_total", "reason")
    with pytest.raises(ConfigError, match="has no label route; it has room"):
        quantile(0.5, "stagedoor_queue_claim_wait_seconds", route="/")


def test_a_label_that_prometheus_renames_is_asked_for_under_its_new_name() -> None:
    assert rate("stagedoor_job_runs_total", "exported_job", job="queue").expr == (
        'sum by (exported_job) (rate(stagedoor_job_runs_total{job="queue"}[$__rate_interval]))'
    )
