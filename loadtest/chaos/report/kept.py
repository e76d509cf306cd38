"""The results of runs on disk: one JSON file a run; the same run made again takes the place of the one before."""

from dataclasses import asdict
from pathlib import Path

import orjson

from libs.common.errors import ConfigError
from loadtest.chaos.running import Run


def keep(run: Run, folder: Path) -> None:
    """Raises ConfigError where nothing can be written, a full disk for one."""
    draft = folder / f"{run.name}.json.new"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(orjson.dumps(asdict(run), option=orjson.OPT_INDENT_2))
        draft.replace(folder / f"{run.name}.json")
    except OSError as why:
        raise ConfigError(f"--folder: the run cannot be kept in {folder}: {why.strerror}") from None


def kept(folder: Path) -> list[Run]:
    """In the order of the matrix, fewer copies first, seeds in order. Raises ConfigError for a file that is no run."""
    found = [_read(path) for path in folder.glob("*.json")]
    return sorted(
        found, key=lambda run: (int(run.fault[1:]), run.experiment, run.backends, run.copies, run.target, run.seed)
    )


def _read(path: Path) -> Run:
    try:
        return Run(**orjson.loads(path.read_bytes()))
    except (TypeError, ValueError) as why:
        raise ConfigError(f"--folder: {path} is not a run of this version ({why}); take it away") from None
