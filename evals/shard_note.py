"""What a log says of the sweep that it is a shard of."""

import json
from dataclasses import asdict, dataclass

from inspect_ai.log import EvalLog

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
