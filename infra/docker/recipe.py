"""Reads `service.Dockerfile` as far as this project uses the language, so that a check can do what an engine would.

An instruction that is not known here is an error and never skipped: a check that misses part of the recipe checks
another image than the one that is built.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from string import Template

from libs.common.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Copy:
    """One COPY. `stage` is the earlier stage it takes from, or None for the build context; `to` is absolute."""

    sources: tuple[str, ...]
    to: str
    stage: str | None


@dataclass(slots=True)
class Stage:
    """What a stage and those it builds on come to, for given arguments. Paths are those inside the image."""

    image: str
    copies: list[Copy] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "root"
    stop_signal: str = "SIGTERM"
    processes: dict[str, list[str]] = field(default_factory=dict)

    @property
    def health(self) -> list[str]:
        return self.processes.get("HEALTHCHECK", [])

    @property
    def command(self) -> list[str]:
        """What the container runs: ENTRYPOINT and CMD together."""
        return self.processes.get("ENTRYPOINT", []) + self.processes.get("CMD", [])

    def inside(self, path: str) -> str:
        """`path` as the stage's working directory makes it absolute; a trailing slash stays, it means a folder."""
        return str(PurePosixPath(self.workdir, path)) + ("/" if path.endswith("/") else "")


class Recipe:
    """A Dockerfile. Raises ConfigError for what it does not understand."""

    def __init__(self, text: str) -> None:
        self._defaults: dict[str, str] = {}
        self._stages: dict[str, tuple[str, list[tuple[str, str]]]] = {}
        name = None
        for keyword, rest in _instructions(text):
            if keyword == "FROM":
                image, name = _named(rest)
                self._stages[name] = (image, [])
            elif name is not None:
                self._stages[name][1].append((keyword, rest))
            else:
                self._defaults.update(_argument(rest, {}))

    @classmethod
    def read(cls, path: Path) -> "Recipe":
        return cls(path.read_text())

    def stage(self, name: str, arguments: Mapping[str, str]) -> Stage:
        """The stage as `--target name --build-arg …` would build it."""
        if name not in self._stages:
            raise ConfigError(f"the Dockerfile has no stage {name}; it has {', '.join(self._stages)}")
        image, instructions = self._stages[name]
        if image in self._stages:
            stage = self.stage(image, arguments)
        else:
            stage = Stage(Template(image).substitute(self._defaults))
        known: dict[str, str] = {}
        for keyword, rest in instructions:
            if keyword == "ARG":
                known.update(_argument(rest, {**self._defaults, **arguments}))
            else:
                _carry_out(stage, keyword, rest, known)
        return stage


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    lines = (line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    for whole in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        keyword, _, rest = whole.strip().partition(" ")
        yield keyword.upper(), rest.strip()


def _named(rest: str) -> tuple[str, str]:
    found = re.fullmatch(r"(\S+)\s+AS\s+(\S+)", rest, re.IGNORECASE)
    if found is None:
        raise ConfigError(f"FROM has to be an image, AS and a name (given: {rest})")
    return found[1], found[2]


def _argument(rest: str, given: Mapping[str, str]) -> dict[str, str]:
    name, equals, default = rest.partition("=")
    if name in given:
        return {name: given[name]}
    return {name: default} if equals else {}


def _carry_out(stage: Stage, keyword: str, rest: str, arguments: Mapping[str, str]) -> None:
    expanded = Template(rest).safe_substitute({**arguments, **stage.environment})
    match keyword:
        case "COPY":
            stage.copies.append(_copy(stage, expanded))
        case "RUN":
            stage.runs.append(rest)
        case "ENV":
            stage.environment.update(_pair(word) for word in shlex.split(expanded))
        case "WORKDIR":
            stage.workdir = stage.inside(expanded)
        case "USER":
            stage.user = expanded
        case "STOPSIGNAL":
            stage.stop_signal = expanded
        case "HEALTHCHECK" | "ENTRYPOINT" | "CMD":
            stage.processes[keyword] = _exec_form(keyword, rest)
        case "EXPOSE":
            pass  # it opens nothing
        case _:
            raise ConfigError(f"{keyword} is not known to this check")


def _pair(word: str) -> tuple[str, str]:
    name, _, value = word.partition("=")
    return name, value


def _copy(stage: Stage, words: str) -> Copy:
    flags = {word for word in shlex.split(words) if word.startswith("--")}
    *sources, to = (word for word in shlex.split(words) if word not in flags)
    origin = next((flag.removeprefix("--from=") for flag in flags if flag.startswith("--from=")), None)
    if len(flags) > (origin is not None):
        raise ConfigError(f"COPY {words}: of its flags only --from is known to this check")
    return Copy(tuple(sources), stage.inside(to), origin)


def _exec_form(keyword: str, rest: str) -> list[str]:
    # An engine expands no variables in this form, and puts no shell between itself and the process.
    try:
        words = json.loads(rest[rest.find("[") :])
    except ValueError:
        raise ConfigError(f"{keyword} has to be a JSON list of words (given: {rest})") from None
    return [str(word) for word in words]
