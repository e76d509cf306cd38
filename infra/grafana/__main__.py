"""Write the dashboards: `python -m infra.grafana`. The files are committed; a test says when they are out of date."""

from collections.abc import Mapping
from pathlib import Path

import orjson

from infra.grafana.boards import catalog, events, gateway, overview, queue, reservation, sale, wallet
from infra.grafana.panels import rendered

FOLDER = Path(__file__).parent / "dashboards"
BOARDS = tuple(part.BOARD for part in (overview, sale, gateway, queue, catalog, reservation, wallet, events))


def files() -> Mapping[str, bytes]:
    """What each file of the folder should hold, by its name."""
    style = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    return {f"{board.name}.json": orjson.dumps(rendered(board), option=style) for board in BOARDS}


def main() -> None:
    """Write every dashboard, and take away what none of them is any more."""
    wanted = files()
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.json"):
        if path.name not in wanted:
            path.unlink()
    for name, content in wanted.items():
        (FOLDER / name).write_bytes(content)
    print(f"{len(wanted)} dashboards in {FOLDER}")


if __name__ == "__main__":
    main()
