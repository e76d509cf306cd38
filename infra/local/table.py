"""The table of `make status` and of the live terminal."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from infra.local.display import Rows

_COLORS = {"ready": "green", "paused": "yellow", "starting": "cyan", "unready": "red", "waiting": "red"}


def service_table(rows: Sequence[dict[str, Any]]) -> Table:
    """One row per process, as `Life.status` describes it."""
    table = Table("service", "pid", "port", "state", "restarts", "up", "RSS", "CPU")
    for name in ("pid", "port", "restarts", "up", "RSS", "CPU"):
        next(column for column in table.columns if column.header == name).justify = "right"
    for row in rows:
        state = Text(row["state"], style=_COLORS.get(row["state"], ""))
        rss, cpu, up = row["rssBytes"], row["cpuPercent"], row["uptimeS"]
        table.add_row(
            row["name"],
            str(row["pid"] or "–"),
            str(row["port"] or "–"),
            state,
            str(row["restarts"]),
            "–" if up is None else _duration(up),
            "–" if rss is None else f"{rss / 2**20:.0f} MiB",
            "–" if cpu is None else f"{cpu:.0f} %",
        )
    return table


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class LiveTable:
    """The table below, the lines above it."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._live = Live(service_table(rows()), console=Console(), auto_refresh=False)
        self._live.start()

    def line(self, text: str) -> None:
        self._live.console.print(Text(text))
        self.refresh()

    def refresh(self) -> None:
        self._live.update(service_table(self._rows()), refresh=True)

    def close(self) -> None:
        self._live.stop()
