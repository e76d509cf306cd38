"""The results of runs on disk: one JSON file a run; the same run made again takes the place of the one before."""

from dataclasses import asdict
from pathlib import Path

import orjson

from loadtest.chaos.running import Run


def keep(run: Run, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"{run.name}.json.new"
    draft.write_bytes(orjson.dumps(asdict(run), option=orjson.OPT_INDENT_2))
    draft.replace(folder / f"{run.name}.json")


def kept(folder: Path) -> list[Run]:
    """In the order of the matrix, fewer copies first, seeds in order."""
    found = [Run(**orjson.loads(path.read_bytes())) for path in folder.glob("*.json")]
    return sorted(found, key=lambda run: (int(run.fault[1:]), run.experiment, run.backends, run.copies, run.seed))
