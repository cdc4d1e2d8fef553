"""Whole grids of evals: presets from data, checked against the tasks that they name, and run as one resumable eval-set."""

import hashlib
import inspect
import json
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from inspect_ai import Task
from inspect_ai.dataset import Sample
from inspect_ai.log import EvalLog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from self_steering.evals.comparison import comparison
from self_steering.evals.detection import detection
from self_steering.evals.free_text import introspection_free_text
from self_steering.evals.freeplay import freeplay
from self_steering.evals.frustration import frustration
from self_steering.evals.introspection import introspection
from self_steering.evals.localisation import localisation
from self_steering.evals.maths import maths
from self_steering.evals.token_counts import TokenCounts, per_sample
from self_steering.vectors.files import write_file

METADATA_KEY = "sweep_shard"


@dataclass(frozen=True)
class ShardNote:
    """One eval's part in one shard.

    Attributes:
        shard: Which shard of how many, such as 3/8.
        samples: Samples of the eval in this shard, every epoch of them.
        of_samples: Samples of the whole eval.
        deal: What no other deal of samples over shards has.
    """

    shard: str
    samples: int
    of_samples: int
    deal: str

    def metadata(self) -> dict[str, object]:
        """Return it as a task's metadata."""
        return {METADATA_KEY: asdict(self)}


def shard_note(log: EvalLog) -> ShardNote | None:
    """Return what a log says of its shard; None where it is no part of anything."""
    noted = (log.eval.metadata or {}).get(METADATA_KEY)
    return ShardNote(**noted) if isinstance(noted, dict) else None


def whole_of(log: EvalLog, note: ShardNote) -> str:
    """Return what all shards of one eval share, and nothing else does."""
    arguments = {name: value for name, value in log.eval.task_args.items() if name != "library"}
    return json.dumps([log.eval.task, log.eval.model, note.deal, arguments], sort_keys=True, default=str)


def part_said(task: str, note: ShardNote, samples: int, shards: list[str]) -> str:
    """Return in words which part of an eval was read."""
    of = note.shard.partition("/")[2]
    return (
        f"{samples} of the {note.of_samples} samples of {task}, which a sweep dealt over {of} engines (shards "
        f"{', '.join(shards)}): what is said here is of these alone"
    )


PRESETS_FILE = Path(__file__).parent / "data" / "sweeps.toml"
TASKS: Mapping[str, Callable[..., Task]] = {
    "freeplay": freeplay,
    "introspection": introspection,
    "introspection_free_text": introspection_free_text,
    "detection": detection,
    "localisation": localisation,
    "comparison": comparison,
    "maths": maths,
    "frustration": frustration,
}
_CONDITIONS = ("framing", "arm", "intent", "tone", "possible", "visibility", "primer")


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
        told = [sample.metadata or {} for sample in self.dataset]
        return Counter("/".join(f"{about[name]}" for name in _CONDITIONS if name in about) for about in told)

    @property
    def samples(self) -> int:
        """Samples, every epoch of them."""
        return len(self.dataset) * (self.task.epochs or 1)


def read_presets(path: Path = PRESETS_FILE) -> dict[str, Preset]:
    """Read grids.

    Raises:
        SweepError: The file does not hold any.
    """
    try:
        held = tomllib.loads(path.read_text(encoding="utf-8"))
        return {name: Preset.model_validate(table) for name, table in held.items()}
    except FileNotFoundError as error:
        raise SweepError(f"{path}: there is no such file of sweeps") from error
    except tomllib.TOMLDecodeError as error:
        raise SweepError(f"{path}: not TOML: {error}") from error
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
    held = list(dict.fromkeys(entry.task for entry in preset.evals))
    if missing := [name for name in only if name not in held]:
        raise SweepError(f"only={','.join(missing)}: the sweep has no such task; choose from {', '.join(held)}")
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
    return list(inspect.signature(TASKS[task]).parameters)


def _overrides(overrides: Sequence[str], tasks: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return for each task the parameters that are given for it; one for a single task wins over one for all."""
    found: dict[str, dict[str, Any]] = {task: {} for task in tasks}
    for override in sorted(overrides, key=lambda given: "." in given.partition("=")[0]):
        said, equals, value = override.partition("=")
        task, dot, name = said.rpartition(".")
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


NOTE = "shards.toml"
_SHARD = re.compile(r"([0-9]+)/([0-9]+)")


@dataclass(frozen=True)
class Shard:
    """One part of a sweep.

    Attributes:
        number: Which part, from 1.
        of: How many parts there are.
    """

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def folder(self) -> str:
        """Name of the folder of its logs."""
        return f"shard-{self.number}-of-{self.of}"


@dataclass(frozen=True)
class Deal:
    """A sweep dealt over shards.

    Attributes:
        shares: Each shard's evals, those without a sample in it left out.
        costs: Each shard's work, in tokens that are read.
        digest: What no other deal has.
    """

    shares: list[list[Planned]]
    costs: list[float]
    digest: str


def parse_shard(text: str) -> Shard:
    """Return the shard that `K/N` names.

    Raises:
        SweepError: It names none.
    """
    match = _SHARD.fullmatch(text)
    shard = Shard(int(match[1]), int(match[2])) if match else Shard(0, 0)
    if not 1 <= shard.number <= shard.of:
        raise SweepError(f"--shard {text}: give K/N, the K-th of N shards, K from 1 to N, such as 1/8")
    return shard


def deal(evals: Sequence[Planned], shards: int, counts: TokenCounts) -> Deal:
    """Deal evals over shards, so that all have about the same work: the dearest block first, each to whoever has least.

    The same evals, number of shards and counts give the same deal. Evals of one task share sample ids where they ask the same
    questions (under other primers, say): those go to one shard.

    Args:
        evals: The whole sweep.
        shards: Over how many.
        counts: Tokens that samples take.

    Raises:
        SweepError: There are more shards than blocks.
    """
    blocks: dict[tuple[str, str], set[str]] = {}
    work: dict[tuple[str, str], float] = {}
    for planned in evals:
        for sample in planned.task.dataset:
            block = (planned.task.name, block_of(sample))
            blocks.setdefault(block, set()).add(str(sample.id))
            cost = per_sample(counts, planned.name, sample.metadata or {}).cost * (planned.task.epochs or 1)
            work[block] = work.get(block, 0.0) + cost
    if shards > len(blocks):
        raise SweepError(
            f"{shards} shards: the sweep has {len(blocks)} blocks of samples; choose a number from 1 to {len(blocks)}"
        )
    costs = [0.0] * shards
    held: list[dict[str, set[str]]] = [{} for _ in range(shards)]
    for block in sorted(blocks, key=lambda block: -work[block]):
        least = costs.index(min(costs))
        costs[least] += work[block]
        held[least].setdefault(block[0], set()).update(blocks[block])
    shares = [[one for planned in evals if (one := _part(planned, ids)).samples] for ids in held]
    return Deal(shares, costs, _digest(shares))


def block_of(sample: Sample) -> str:
    """Return what a sample's id says beside its arm (and dose, where arms have several): what its arms share."""
    about = sample.metadata or {}
    arm = about.get("condition", about.get("arm", ""))
    return f"-{sample.id}-".replace(f"-{arm}-", "-", 1)


def sample_ids(share: Sequence[Planned]) -> list[str]:
    """Return the samples of a shard as Inspect's `sample_id` takes them: with their task's name."""
    return list(dict.fromkeys(f"{one.task.name}:{sample.id}" for one in share for sample in one.dataset))


def note_shards(share: Sequence[Planned], shard: Shard, digest: str) -> None:
    """Note in each eval's metadata, and so in its log, which part of which whole it is."""
    for one in share:
        whole = replace(one, chosen=None)
        note = ShardNote(str(shard), one.samples, whole.samples, digest)
        one.task.metadata = {**(one.task.metadata or {}), **note.metadata()}


def claim_folder(root: Path, shard: Shard | None, digest: str) -> None:
    """Make sure that a sweep's folder holds logs of one deal alone, and note which.

    Args:
        root: The sweep's folder.
        shard: The shard that is to be run; None for the whole sweep in one piece.
        digest: The deal's.

    Raises:
        SweepError: It holds logs of the whole, or is dealt otherwise.
    """
    note = root / NOTE
    if shard is None:
        if note.exists():
            raise SweepError(
                f"{root} holds a sweep in shards ({note.name}); go on with --shard, or name another --log-dir"
            )
        return
    if whole := next(iter(root.glob("*.eval")), None):
        raise SweepError(
            f"{root} holds the sweep in one piece ({whole.name}); go on without --shard, or name another --log-dir"
        )
    if not note.exists():
        write_file(note, f'# How this sweep was dealt.\nshards = {shard.of}\ndeal = "{digest}"\n'.encode())
    held = _read_note(note)
    if held["shards"] != shard.of:
        raise SweepError(
            f"--shard {shard}: {root} is dealt over {held['shards']} shards; go on with K/{held['shards']}, or name another "
            "--log-dir"
        )
    if held["deal"] != digest:
        raise SweepError(
            f"{root} was dealt from another grid: give the same preset, -T and --only, and use the same version, as for its "
            "other shards, or name another --log-dir"
        )


def _read_note(note: Path) -> dict[str, object]:
    try:
        held = tomllib.loads(note.read_text(encoding="utf-8"))
        return {name: held[name] for name in ("shards", "deal")}
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise SweepError(f"{note} does not say how the sweep was dealt ({error}); name another --log-dir") from error


def _part(planned: Planned, ids: dict[str, set[str]]) -> Planned:
    chosen = ids.get(planned.task.name, set())
    return replace(planned, chosen=frozenset(str(s.id) for s in planned.task.dataset if str(s.id) in chosen))


def _digest(shares: Sequence[Sequence[Planned]]) -> str:
    # Where a library lies may differ from node to node; what is in it is in each log.
    said = [
        [
            (one.name, {k: v for k, v in one.parameters.items() if k != "library"}, sorted(one.chosen or ()))
            for one in share
        ]
        for share in shares
    ]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]
