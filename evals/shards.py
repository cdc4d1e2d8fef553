"""One sweep over several engines: its samples are dealt over shards, and the shards' logs are read as one.

    self-steering sweep study --shard 3/8

Every shard deals the whole sweep anew and in the same way, then runs its own part. Samples that differ in their arm alone form a
block and stay on one shard. The blocks of each condition are dealt in turn, so that all shards have the same mix of
conditions, each condition's blocks even to one.
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path

from inspect_ai.dataset import Sample
from inspect_ai.log import EvalLog

from self_steering.evals.sweep import Planned, SweepError, condition_of
from self_steering.vectors.files import write_file
from self_steering.vectors.shown import in_one_line

METADATA_KEY = "sweep_shard"
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
        digest: Hash of the whole deal: two shards belong together where it is the same.
    """

    shares: list[list[Planned]]
    digest: str


@dataclass(frozen=True)
class ShardNote:
    """What an eval's log says of the shard that it is in.

    Attributes:
        shard: Which shard of how many, such as 3/8.
        samples: Samples of the eval in this shard, every epoch of them.
        of_samples: Samples of the whole eval.
        deal: Digest of the deal.
    """

    shard: str
    samples: int
    of_samples: int
    deal: str


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


def deal(evals: Sequence[Planned], shards: int) -> Deal:
    """Deal the blocks of a sweep over shards, those of each condition in turn.

    The same evals and number of shards give the same deal. Evals of one task have sample ids in common where they ask the same
    questions (under other primers, say): those go to one shard.

    Args:
        evals: The whole sweep.
        shards: Over how many.

    Raises:
        SweepError: There are more shards than blocks.
    """
    ids: dict[tuple[str, str], set[str]] = {}
    conditions: dict[tuple[str, str], set[str]] = {}
    for planned in evals:
        for sample in planned.task.dataset:
            block = (planned.task.name, block_of(sample))
            ids.setdefault(block, set()).add(str(sample.id))
            conditions.setdefault(block, set()).add(condition_of(sample))
    if shards > len(ids):
        raise SweepError(
            f"{shards} shards: the sweep has {len(ids)} blocks of samples; choose a number from 1 to {len(ids)}"
        )
    alike: dict[tuple[str, frozenset[str]], list[tuple[str, str]]] = {}
    for block, found in conditions.items():
        alike.setdefault((block[0], frozenset(found)), []).append(block)
    shares: list[dict[str, set[str]]] = [{} for _ in range(shards)]
    # One count for all conditions: what one of them leaves uneven, the next evens out.
    for turn, dealt in enumerate(chain.from_iterable(alike.values())):
        shares[turn % shards].setdefault(dealt[0], set()).update(ids[dealt])
    parts = [[part for planned in evals if (part := _part(planned, share)).samples] for share in shares]
    return Deal(parts, _digest(parts))


def block_of(sample: Sample) -> str:
    """Return what a sample's id says beside its arm (and dose, where arms have several): what its arms have in common."""
    about = sample.metadata or {}
    arm = about.get("condition", about.get("arm", ""))
    return f"-{sample.id}-".replace(f"-{arm}-", "-", 1)


def sample_ids(share: Sequence[Planned]) -> list[str]:
    """Return the samples of a shard as Inspect's `sample_id` takes them: with their task's name."""
    return list(dict.fromkeys(f"{one.task.name}:{sample.id}" for one in share for sample in one.dataset))


def note_shards(share: Sequence[Planned], shard: Shard, digest: str) -> None:
    """Note in each eval's metadata, and so in its log, which part of which whole it is."""
    for one in share:
        note = ShardNote(str(shard), one.samples, replace(one, chosen=None).samples, digest)
        one.task.metadata = {**(one.task.metadata or {}), METADATA_KEY: asdict(note)}


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
    dealt = _read_note(note)
    if dealt["shards"] != shard.of:
        raise SweepError(
            f"--shard {shard}: {root} is dealt over {dealt['shards']} shards; go on with K/{dealt['shards']}, or name another "
            "--log-dir"
        )
    if dealt["deal"] != digest:
        raise SweepError(
            f"{root} was dealt from another grid: give the same preset, -T and --only, and use the same version, as for its "
            "other shards, or name another --log-dir"
        )


def shard_note(log: EvalLog) -> ShardNote | None:
    """Return what a log says of its shard; None where it holds a whole eval."""
    noted = (log.eval.metadata or {}).get(METADATA_KEY)
    return ShardNote(**noted) if isinstance(noted, dict) else None


def whole_of(log: EvalLog, note: ShardNote) -> str:
    """Return a key that the logs of all shards of one eval share, and no other log does."""
    arguments = {name: value for name, value in log.eval.task_args.items() if name != "library"}
    return json.dumps([log.eval.task, log.eval.model, note.deal, arguments], sort_keys=True, default=str)


def describe_part(task: str, note: ShardNote, samples: int, shards: list[str]) -> str:
    """Return in words which part of an eval was read."""
    of = note.shard.partition("/")[2]
    return (
        f"{samples} of the {note.of_samples} samples of {task}, which a sweep dealt over {of} engines (shards "
        f"{', '.join(shards)}): what is said here is of these alone"
    )


def _read_note(note: Path) -> dict[str, object]:
    try:
        dealt = tomllib.loads(note.read_text(encoding="utf-8"))
        return {name: dealt[name] for name in ("shards", "deal")}
    except (OSError, ValueError, KeyError, RecursionError) as error:
        raise SweepError(
            f"{note} does not say how the sweep was dealt ({in_one_line(error)}); name another --log-dir"
        ) from error


def _part(planned: Planned, ids: dict[str, set[str]]) -> Planned:
    chosen = ids.get(planned.task.name, set())
    return replace(planned, chosen=frozenset(str(s.id) for s in planned.task.dataset if str(s.id) in chosen))


def _digest(shares: Sequence[Sequence[Planned]]) -> str:
    # Where a library lies may differ from node to node; what is in it is in each log.
    content = [
        [
            (one.name, {k: v for k, v in one.parameters.items() if k != "library"}, sorted(one.chosen or ()))
            for one in share
        ]
        for share in shares
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
