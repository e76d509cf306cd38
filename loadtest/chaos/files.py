"""The experiments: Chaos Toolkit files, and what each of them says about itself in the extension `stagedoor`.

A file is an ordinary experiment (method, rollbacks); without a steady-state-hypothesis it gets that of
`steady_state.yaml`. What one run of it needs beside that (on which system, with which settings, what is drawn from the
seed, what it is judged by) stands in its extension, as `Terms`.
"""

import importlib
import json
import random
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from chaoslib.exceptions import ChaosException
from chaoslib.experiment import ensure_experiment_is_valid
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from libs.common.errors import ConfigError

FOLDER = Path(__file__).with_name("experiments")
USUAL_STEADY_STATE = Path(__file__).with_name("steady_state.yaml")
STEADY_STATE = "steady-state-hypothesis"
EXTENSION = "stagedoor"
ACTIONS = "loadtest.chaos.actions."
SUFFIXES = (".yaml", ".yml")
WIRED = frozenset({"toxics", "clock", "partition"})
"""Modules of actions that need the proxy on every wire, or a clock of its own for every process."""

STEP = frozenset(
    {"type", "name", "provider", "ref", "tolerance", "timeout", "pauses", "background", "secrets", "controls"}
)
PAUSES = frozenset({"before", "after"})
"""What Chaos Toolkit reads of a step, and of its pauses."""

Values = dict[str, Any]


class Terms(BaseModel):
    """What a run of an experiment needs, and what it is judged by. Times in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["stagedoor"]
    fault: str = Field(pattern=r"^F\d{1,2}$", description="the row of the fault matrix")
    expected: str = Field(min_length=10, description="what is promised and looked at, in a sentence")
    backends: tuple[Literal["embedded", "native"], ...] = Field(("embedded",), min_length=1)
    environment: dict[str, str] = Field({}, description="settings of the system, beside the usual ones")
    variants: tuple[Values, ...] = Field(({},), min_length=1, description="values, taken in turn, seed by seed")
    shuffled: dict[str, list[str]] = Field({}, description="name: a list; name_1, name_2 … in an order of the seed")
    uniform: dict[str, tuple[float, float]] = Field({}, description="name: a number of the seed between two")
    recovery_s: float = Field(5.0, gt=0, description="from the end of the fault until all is as before")
    recovers_after: tuple[str, ...] = Field(
        (), description="the actions that end a fault; none: the last of the method"
    )
    refuses: str = Field("", description="why people may have to give up while it lasts; empty: they may not")
    line_stands: str = Field("", description="why nobody may come in from the line afterwards; empty: somebody has to")
    untrue: dict[str, str] = Field({}, description="claims of the auditor that the fault itself makes untrue: why")
    watch_s: float = Field(8.0, gt=0, le=60, description="how long the crowd is watched after the fault, at least")


@dataclass(frozen=True, slots=True)
class Experiment:
    """A file and its terms."""

    path: Path
    content: dict[str, Any]
    terms: Terms

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def modules(self) -> list[str]:
        """What its activities are from; those that run a program or ask a URL are from none."""
        providers = [activity.get("provider", {}) for activity in self.activities]
        return sorted({provider["module"] for provider in providers if "module" in provider})

    @property
    def activities(self) -> Iterator[dict[str, Any]]:
        yield from self.content[STEADY_STATE].get("probes", [])
        yield from self.content["method"]
        yield from self.content.get("rollbacks", [])

    @property
    def is_wired(self) -> bool:
        """True when it needs a system whose every wire goes through the proxy."""
        return bool({module.removeprefix(ACTIONS) for module in self.modules} & WIRED)

    def draw(self, seed: int) -> Values:
        """Every value of a run; the same for the same seed."""
        chance = random.Random(f"{self.name}/{seed}")  # noqa: S311 (repeatable, which is the point)
        drawn: Values = {"seed": seed}
        for name, items in self.terms.shuffled.items():
            order = chance.sample(items, len(items))
            drawn |= {f"{name}_{place}": item for place, item in enumerate(order, 1)}
        drawn |= {name: round(chance.uniform(*bounds), 2) for name, bounds in self.terms.uniform.items()}
        return {**drawn, **self.terms.variants[seed % len(self.terms.variants)]}

    def prepared(self, values: Values) -> dict[str, Any]:
        """The experiment as Chaos Toolkit runs it, with these values for its `${names}`, and `${untrue}`."""
        content = deepcopy(self.content)
        content["configuration"] = {**content.get("configuration", {}), "untrue": self.terms.untrue, **values}
        return content

    def missing(self) -> dict[str, str]:
        """What the machine lacks for its actions: name → why."""
        found: dict[str, str] = {}
        for module in self.modules:
            if module.startswith(ACTIONS):
                found |= importlib.import_module(module).needs()
        return found


def read(path: Path) -> Experiment:
    """Raises ConfigError, naming the file and what is wrong with it."""
    content = _parsed(path)
    try:
        content[STEADY_STATE] = content.get(STEADY_STATE) or _usual_steady_state()
        extensions: Mapping[str, Any] = {each["name"]: each for each in content.get("extensions") or ()}
        if EXTENSION not in extensions:
            raise ConfigError(f"{path.name}: extensions: none is called {EXTENSION}, which says what a run needs")
        found = Experiment(path, content, Terms.model_validate(extensions[EXTENSION]))
        ensure_experiment_is_valid(found.prepared(found.draw(0)))
        for wrong in _unsound(found):
            raise ConfigError(f"{path.name}: {wrong}")
    except ChaosException as wrong:
        raise ConfigError(f"{path.name}: {wrong}") from None
    except ValidationError as wrong:
        first = wrong.errors()[0]
        raise ConfigError(f"{path.name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (KeyError, TypeError, AttributeError) as wrong:
        raise ConfigError(f"{path.name}: not an experiment with an extension {EXTENSION}: {wrong!r}") from None
    return found


def _parsed(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as wrong:
        raise ConfigError(f"EXPERIMENT: {path} cannot be read: {wrong.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as wrong:
        raise ConfigError(f"{path.name}: not YAML: {' '.join(str(wrong).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path.name}: not an experiment: it has no title, no method and no extension {EXTENSION}")
    return content


def _unsound(experiment: Experiment) -> Iterator[str]:
    """What Chaos Toolkit takes, and a run would judge wrongly, or stumble over once its system is up."""
    content, terms = experiment.content, experiment.terms
    for step in [*content["method"], *content.get("rollbacks", [])]:
        for strange in sorted(set(step) - STEP) + sorted(set(step.get("pauses", {})) - PAUSES):
            yield f"{step.get('name', 'a step')}: Chaos Toolkit knows no {strange!r} in a step, and would pass over it"
    names = [step["name"] for step in content["method"] if "name" in step]
    for name in {name for name in names if names.count(name) > 1}:
        yield f"method: two steps are called {name!r}, and cannot be told apart"
    actions = {step["name"] for step in content["method"] if step.get("type") == "action"}
    for name in sorted(set(terms.recovers_after) - actions):
        yield f"recovers_after: no action of the method is called {name!r}"
    if not content.get("rollbacks"):
        yield "rollbacks: there has to be at least one action, which brings everything back"
    used = set(re.findall(r"\$\{(\w+)\}", json.dumps([*experiment.activities])))
    for variant in range(len(terms.variants)):
        given = experiment.prepared(experiment.draw(variant))["configuration"]
        for name in sorted(used - set(given)):
            yield f"${{{name}}}: variant {variant + 1} of {len(terms.variants)} gives it no value, nor does the seed"


@cache
def _usual_steady_state() -> dict[str, Any]:
    usual: dict[str, Any] = yaml.safe_load(USUAL_STEADY_STATE.read_text())
    return usual


def all_experiments() -> list[Experiment]:
    """In the order of the matrix."""
    found = [read(path) for path in FOLDER.glob("*.yaml")]
    return sorted(found, key=lambda each: (int(each.terms.fault[1:]), each.name))


def chosen(wanted: str) -> list[Experiment]:
    """By row (`F4`, or `F04`), by the name of a file or its path, or all for an empty word; commas between several.

    Raises ConfigError.
    """
    words = [re.sub(r"^F0(\d)$", r"F\1", word.strip()) for word in wanted.split(",") if word.strip()]
    named = [read(_path(word)) for word in words if word.endswith(SUFFIXES)]
    words = [word for word in words if not word.endswith(SUFFIXES)]
    known = all_experiments()
    found = named + [each for each in known if not (words or named) or {each.name, each.terms.fault} & set(words)]
    strange = [word for word in words if not any(word in (each.name, each.terms.fault) for each in known)]
    if strange:
        raise ConfigError(f"EXPERIMENT: there is no {', '.join(strange)}; make chaos LIST=1 names all")
    return found


def _path(word: str) -> Path:
    """One of `experiments/` may go by the name of its file alone."""
    path, known = Path(word), FOLDER / word
    return known if not path.exists() and path.name == word and known.exists() else path
