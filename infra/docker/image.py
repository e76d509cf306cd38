"""Lays an image out in a folder of this machine: what `service.Dockerfile` copies, and the packages it installs.

The packages go to `.venv/images/<service>` and stay there until the requirements, the way they are installed or the
Python that runs this change. What was copied goes to a temporary folder, as the recipe and `.dockerignore` say.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from docker.utils.build import exclude_paths

from infra.docker.compose import ROOT
from infra.docker.recipe import Copy, Recipe, Stage
from libs.common.errors import ConfigError

DOCKERFILE = ROOT / "infra/docker/service.Dockerfile"
ENVIRONMENTS = ROOT / ".venv/images"
PACKAGES, PACKAGES_PATH = "packages", "/opt/venv"
INSTALL_S = 600.0


@dataclass(frozen=True, slots=True)
class LaidOut:
    """An image whose files are in `folder`, and its packages in `packages`."""

    stage: Stage
    folder: Path
    packages: Path

    @property
    def workdir(self) -> Path:
        return self.folder / self.stage.workdir.lstrip("/")

    def environment(self, **more: str) -> dict[str, str]:
        """All that a process of this image sees: its ENV lines, what an engine adds, and `more`."""
        given = {name: self._here(value) for name, value in self.stage.environment.items()}
        given["PATH"] = given.get("PATH", "$PATH").replace("$PATH", os.defpath)
        return {**given, "HOSTNAME": "0123456789ab", **more}

    def files(self) -> set[Path]:
        """All but compiled code, which an engine's build makes and this does not."""
        return {path for path in self.folder.rglob("*") if path.is_file() and path.parent.name != "__pycache__"}

    def _here(self, value: str) -> str:
        return value.replace(PACKAGES_PATH, str(self.packages))


def lay_out(recipe: Recipe, target: str, arguments: Mapping[str, str], folder: Path) -> LaidOut:
    """Build `target` into `folder`. Raises ConfigError where an engine would end the build with an error."""
    stage = recipe.stage(target, arguments)
    image = LaidOut(stage, folder, ENVIRONMENTS / arguments["SERVICE"])
    for copy in stage.copies:
        if copy.stage is None:
            _copy(copy, folder)
        elif copy.stage == PACKAGES and copy.sources == (PACKAGES_PATH,) and copy.to == PACKAGES_PATH:
            _install(recipe.stage(PACKAGES, arguments), image.packages, folder / "build")
        else:
            raise ConfigError(f"COPY --from={copy.stage} is not known to this check")
    image.workdir.mkdir(parents=True, exist_ok=True)
    return image


def context_files() -> list[Path]:
    """What `.dockerignore` leaves of the project, relative to its root: all that a COPY can see."""
    patterns = (line.strip() for line in (ROOT / ".dockerignore").read_text().splitlines())
    kept = exclude_paths(str(ROOT), [line for line in patterns if line and not line.startswith("#")])
    kept.discard(".dockerignore")  # which the reader always keeps, and an engine does not
    return sorted(Path(name) for name in kept if (ROOT / name).is_file())


def _copy(copy: Copy, folder: Path) -> None:
    to = folder / copy.to.lstrip("/")
    context = context_files()
    for name in copy.sources:
        source = Path(name)
        found = [path for path in context if path == source or source in path.parents]
        if not found:
            raise ConfigError(f"COPY {name}: nothing is there, or .dockerignore takes all of it away")
        own_name = source.name if copy.to.endswith("/") else ""
        for path in found:
            into = to / (own_name if path == source else path.relative_to(source))
            into.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, into)


def _install(stage: Stage, packages: Path, build: Path) -> None:
    """Run the stage that installs packages, with `packages` in the place of its environment."""
    for copy in stage.copies:
        _copy(Copy(copy.sources, "/" + Path(copy.to).name, None), build)
    wanted = "\n".join([sys.version, *stage.runs, *(path.read_text() for path in sorted(build.iterdir()))])
    stamp = packages / "installed"
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    shutil.rmtree(packages, ignore_errors=True)
    packages.parent.mkdir(parents=True, exist_ok=True)
    for run in stage.runs:
        script = run.replace(PACKAGES_PATH, shlex.quote(str(packages)))
        _run(["sh", "-c", script], cwd=build, path=str(Path(sys.executable).parent))
    stamp.write_text(wanted)


def _run(command: Sequence[str], cwd: Path, path: str) -> None:
    environment = {**os.environ, "PATH": f"{path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=INSTALL_S, check=False
    )
    if done.returncode:
        raise ConfigError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
