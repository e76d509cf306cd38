"""What a dashboard is made of, and how it is laid out: rows of panels that share the 24 columns of a page evenly.

Only what Grafana cannot do without is written, so that a change of a panel is a change of a few lines of JSON.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from infra.grafana.queries import Query

COLUMNS = 24
HEIGHTS = {"timeseries": 8, "stat": 4}
SCHEMA_VERSION = 41
"""Of Grafana 12; a newer one migrates when it reads."""

SOURCE = {"type": "prometheus", "uid": "prometheus"}


@dataclass(frozen=True, slots=True)
class Panel:
    """`targets` are (legend, query). A panel is red from `red_from` up, or up to `red_until`."""

    kind: str
    title: str
    unit: str
    description: str
    targets: tuple[tuple[str, Query], ...]
    red_from: float | None = None
    red_until: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Board:
    """`name` is the file's and the end of the uid; `answers` is the question the dashboard is for."""

    name: str
    title: str
    answers: str
    rows: tuple[Row, ...]


def graph(
    title: str,
    unit: str,
    *targets: tuple[str, Query],
    says: str = "",
    red_from: float | None = None,
    red_until: float | None = None,
) -> Panel:
    """Lines over time. Without `says` the description is what the catalogue says of the first series."""
    return Panel("timeseries", title, unit, says or _told(targets[0][1]), targets, red_from, red_until)


def stat(
    title: str,
    unit: str,
    query: Query,
    *,
    says: str = "",
    red_from: float | None = None,
    red_until: float | None = None,
) -> Panel:
    """One number, as it is now."""
    return Panel("stat", title, unit, says or _told(query), ((title, query),), red_from, red_until)


def rendered(board: Board) -> dict[str, Any]:
    """The dashboard as Grafana reads it."""
    return {
        "uid": f"stagedoor-{board.name}",
        "title": f"Stagedoor / {board.title}",
        "description": board.answers,
        "tags": ["stagedoor"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "5s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "links": [{"type": "dashboards", "title": "Dashboards", "tags": ["stagedoor"], "asDropdown": True}],
        "annotations": {"list": [_ALERTS]},
        "panels": list(_placed(board)),
    }


_ALERTS = {
    "name": "Alerts",
    "datasource": SOURCE,
    "enable": True,
    "iconColor": "red",
    "expr": 'ALERTS{alertstate="firing"}',
    "titleFormat": "{{alertname}}",
}


def _told(query: Query) -> str:
    return query.says.rstrip(".") + "."


def _placed(board: Board) -> Iterator[dict[str, Any]]:
    number, top = 1, 0
    for row in board.rows:
        place = {"x": 0, "y": top, "w": COLUMNS, "h": 1}
        yield {"id": number, "type": "row", "title": row.title, "collapsed": False, "gridPos": place, "panels": []}
        number, top = number + 1, top + 1
        for line in _lines(row.panels):
            width, height = COLUMNS // len(line), max(HEIGHTS[panel.kind] for panel in line)
            for column, panel in enumerate(line):
                yield _panel(number, panel, {"x": column * width, "y": top, "w": width, "h": height})
                number += 1
            top += height


def _lines(panels: tuple[Panel, ...]) -> Iterator[tuple[Panel, ...]]:
    """Numbers stand six to a line, graphs three."""
    for kind, most in (("stat", 6), ("timeseries", 3)):
        alike = tuple(panel for panel in panels if panel.kind == kind)
        for start in range(0, len(alike), most):
            yield alike[start : start + most]


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _OPTIONS[panel.kind],
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": query.expr, "legendFormat": legend}
            for index, (legend, query) in enumerate(panel.targets)
        ],
    }


_OPTIONS: dict[str, dict[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {"colorMode": "background", "graphMode": "area", "reduceOptions": {"calcs": ["lastNotNull"]}},
}


def _defaults(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.red_from is not None:
        steps.append({"color": "red", "value": panel.red_from})
    if panel.red_until is not None:
        steps = [{"color": "red", "value": None}, {"color": "green", "value": panel.red_until}]
    defaults: dict[str, Any] = {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.kind == "timeseries":
        lined = len(steps) > 1
        defaults["custom"] = {
            "fillOpacity": 5,
            "showPoints": "never",
            "thresholdsStyle": {"mode": "dashed" if lined else "off"},
        }
    else:
        defaults["noValue"] = "–"
    return defaults
