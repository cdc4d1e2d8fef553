"""A sweep dealt over several engines: which samples each of them runs, and the folder that says how it was dealt.

What belongs together stays together: samples that differ in their arm alone are compared with each other and share prompts, so
that one engine runs them all, and finds in its cache what they share. Inspect selects a shard's samples by their ids
(`sample_id`), which are in each log, so that `inspect eval-retry` goes on with the shard and not with the whole.
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from inspect_ai.dataset import Sample

from self_steering.evals.shard_note import ShardNote
from self_steering.evals.sweep import Planned, SweepError
from self_steering.evals.token_counts import TokenCounts, per_sample
from self_steering.vectors.files import write_file

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
