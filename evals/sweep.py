"""Whole grids of evals: presets from `data/sweeps.toml`, checked against the tasks that they name."""

import inspect
import json
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from inspect_ai import Task
from inspect_ai.dataset import Sample
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from self_steering.evals.comparison import comparison
from self_steering.evals.detection import detection
from self_steering.evals.free_text import introspection_free_text
from self_steering.evals.freeplay import freeplay
from self_steering.evals.frustration import frustration
from self_steering.evals.gauge import gauge
from self_steering.evals.introspection import introspection
from self_steering.evals.localisation import localisation
from self_steering.evals.maths import maths
from self_steering.evals.preference import preference
from self_steering.evals.relief import relief
from self_steering.vectors.shown import in_one_line

PRESETS_FILE = Path(__file__).parent / "data" / "sweeps.toml"
TASKS: Mapping[str, Callable[..., Task]] = {
    "freeplay": freeplay,
    "introspection": introspection,
    "introspection_free_text": introspection_free_text,
    "detection": detection,
    "localisation": localisation,
    "preference": preference,
    "relief": relief,
    "comparison": comparison,
    "maths": maths,
    "frustration": frustration,
    "gauge": gauge,
}
CONDITIONS = (
    "framing",
    "arm",
    "intent",
    "tone",
    "possible",
    "visibility",
    "labels",
    "operators",
    "directions",
    "gauge",
    "primer",
)


class SweepError(ValueError):
    """A grid that cannot be run; the message names what can be chosen."""


class Entry(BaseModel):
    """One task of a preset.

    Attributes:
        task: Name of the task.
        parameters: Its parameters.
        grid: Parameters with several values each: every combination is an eval.
    """

    model_config = ConfigDict(extra="forbid")

    task: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    grid: dict[str, list[Any]] = Field(default_factory=dict)


class Preset(BaseModel):
    """A named grid.

    Attributes:
        about: What it is, in one line.
        evals: Its tasks.
    """

    model_config = ConfigDict(extra="forbid")

    about: str
    evals: list[Entry] = Field(min_length=1)


@dataclass(frozen=True)
class Planned:
    """One eval of a sweep.

    Attributes:
        name: Name of the task.
        parameters: Its parameters, as far as they are given.
        task: The task.
        chosen: Ids of the samples that are run of it; None for all.
    """

    name: str
    parameters: Mapping[str, Any]
    task: Task
    chosen: frozenset[str] | None = None

    @property
    def dataset(self) -> list[Sample]:
        """The samples that are run, once each."""
        return [one for one in self.task.dataset if self.chosen is None or str(one.id) in self.chosen]

    @property
    def cells(self) -> Counter[str]:
        """Samples in each condition."""
        return Counter(map(condition_of, self.dataset))

    @property
    def samples(self) -> int:
        """Samples, every epoch of them."""
        return len(self.dataset) * (self.task.epochs or 1)


def condition_of(sample: Sample) -> str:
    """Return a sample's condition in one word, such as `drugs/placebo/neutral`."""
    about = sample.metadata or {}
    return "/".join(f"{about[name]}" for name in CONDITIONS if name in about)


def read_presets(path: Path = PRESETS_FILE) -> dict[str, Preset]:
    """Read grids.

    Raises:
        SweepError: The file does not hold any.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        return {name: Preset.model_validate(table) for name, table in tables.items()}
    except FileNotFoundError as error:
        raise SweepError(f"{path}: there is no such file of sweeps") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise SweepError(f"{path}: not TOML: {in_one_line(error)}") from error
    except ValidationError as error:
        (first, *_) = error.errors()
        where = ".".join(str(part) for part in first["loc"])
        raise SweepError(f"{path}: {error.title} {where}: {first['msg']}") from error


def planned(preset: Preset, overrides: Sequence[str] = (), only: Sequence[str] = ()) -> list[Planned]:
    """Make the evals of a grid.

    Args:
        preset: The grid.
        overrides: Parameters as `name=value`, for every task that has it, or `task.name=value`, for one.
        only: Tasks to which the grid is cut down; none for all.

    Raises:
        ValueError: Something that is named is not there, or a task refuses a value.
    """
    tasks = list(dict.fromkeys(entry.task for entry in preset.evals))
    if missing := [name for name in only if name not in tasks]:
        raise SweepError(f"only={','.join(missing)}: the sweep has no such task; choose from {', '.join(tasks)}")
    entries = [entry for entry in preset.evals if not only or entry.task in only]
    for entry in entries:
        _check(entry)
    given = _overrides(overrides, [entry.task for entry in entries])
    found = []
    for entry in entries:
        new = given[entry.task]
        grid = {name: values for name, values in entry.grid.items() if name not in new}
        for combination in product(*grid.values()):
            parameters = {**entry.parameters, **dict(zip(grid, combination, strict=True)), **new}
            found.append(Planned(entry.task, parameters, TASKS[entry.task](**parameters)))
    return found


def _check(entry: Entry) -> None:
    if entry.task not in TASKS:
        raise SweepError(f"the sweep names the task {entry.task!r}, which is unknown; choose from {', '.join(TASKS)}")
    for name in (*entry.parameters, *entry.grid):
        if name not in _parameters(entry.task):
            valid = ", ".join(_parameters(entry.task))
            raise SweepError(f"{entry.task} has no parameter {name!r}; choose from {valid}")


def _parameters(task: str) -> list[str]:
    # The last one takes what is refused.
    return [name for name in inspect.signature(TASKS[task]).parameters if name != "others"]


def _overrides(overrides: Sequence[str], tasks: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return for each task the parameters that are given for it; one for a single task wins over one for all."""
    found: dict[str, dict[str, Any]] = {task: {} for task in tasks}
    for override in sorted(overrides, key=lambda given: "." in given.partition("=")[0]):
        target, equals, value = override.partition("=")
        task, dot, name = target.rpartition(".")
        if not equals or (dot and task not in found):
            raise SweepError(f"-T {override}: give NAME=VALUE or TASK.NAME=VALUE, the task one of {', '.join(found)}")
        takers = [one for one in ([task] if dot else found) if name in _parameters(one)]
        if not takers:
            valid = sorted({name for one in ([task] if dot else found) for name in _parameters(one)})
            raise SweepError(f"-T {override}: no parameter {name!r}; choose from {', '.join(valid)}")
        for taker in takers:
            found[taker][name] = read_value(value)
    return found


def read_value(text: str) -> Any:
    """Return what a command line's value says: JSON where it is JSON, else the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
