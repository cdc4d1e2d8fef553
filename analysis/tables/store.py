"""What reading a log came to, and the store that keeps it between runs: a log that has not changed is not read again."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
from platformdirs import user_cache_path

from self_steering.analysis.tables.columns import typed
from self_steering.analysis.tables.log_files import LogFile
from self_steering.evals.shards import ShardNote

_INDEX = "index.json"
# What the rows of a log follow from, beside the log.
_SOURCES = (
    "self_steering.analysis.tables",
    "self_steering.evals",
    "self_steering.scorers",
    "self_steering.solvers",
    "self_steering.steering",
    "self_steering.vectors",
)
_OF_LOG = (
    "samples",
    "figures",
    "edits",
    "condition",
    "unfinished",
    "eval_id",
    "task_id",
    "created",
    "left_out",
    "whole",
)


@dataclass(frozen=True)
class LogTables:
    """What one file came to.

    Attributes:
        file: The file.
        frames: Its part of each table that it has rows in; empty where it is in none, or where they were kept by an earlier run.
        samples: How many samples it has; 0 where it is in no table.
        figures: How many of its scores are numbers.
        edits: How often its scores were edited.
        condition: Its task, model and arguments; empty where it is no log.
        unfinished: Whether it did not come to its end.
        eval_id: What no other run has.
        task_id: What a run shares with its retries.
        created: When the run began.
        left_out: Why the file is in no table, or which of its samples are in none.
        shard: Which part of a sweep it is; None where it holds all of its eval.
        whole: What the shards of one eval share; empty likewise.
    """

    file: LogFile
    frames: dict[str, pd.DataFrame] = field(default_factory=dict)
    samples: int = 0
    figures: int = 0
    edits: int = 0
    condition: str = ""
    unfinished: bool = False
    eval_id: str = ""
    task_id: str = ""
    created: str = ""
    left_out: str = ""
    shard: ShardNote | None = None
    whole: str = ""


class TableStore:
    """The tables of a set of logs, one parquet file each, in the user's cache folder.

    They are kept by each log's path, size and time of writing, and by the code that made them.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """Find the store of logs in these places, whether it is there or not."""
        place = os.path.commonpath([path.resolve().parent for path in paths])
        key = hashlib.sha256(f"{place} {_fingerprint()}".encode()).hexdigest()[:24]
        self.folder = user_cache_path("self-steering") / "tables" / key

    def load(self, files: Sequence[LogFile]) -> tuple[dict[str, LogTables], dict[str, pd.DataFrame]]:
        """Return, of those files that have not changed, what reading them came to, by name, and the rows of all."""
        try:
            index: dict[str, dict[str, Any]] = json.loads((self.folder / _INDEX).read_text(encoding="utf-8"))
            frames = {path.stem: typed(pd.read_parquet(path), path.stem) for path in self.folder.glob("*.parquet")}
        except (OSError, ValueError):  # none yet, or one that was cut off: it is made again
            return {}, {}
        kept = {}
        for file in files:
            known = index.get(file.name)
            if known is not None and known["file"] == _state(file):
                shard = ShardNote(**known["shard"]) if known["shard"] else None
                kept[file.name] = LogTables(file, shard=shard, **{name: known[name] for name in _OF_LOG})
        return kept, {table: frame[frame["log"].isin(kept)] for table, frame in frames.items()}

    def save(self, logs: Sequence[LogTables], tables: Mapping[str, pd.DataFrame]) -> None:
        """Keep what reading some logs came to, in the place of what was kept before."""
        index = {
            log.file.name: {
                "file": _state(log.file),
                "shard": asdict(log.shard) if log.shard else None,
                **{name: getattr(log, name) for name in _OF_LOG},
            }
            for log in logs
        }
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=self.folder.parent))
        for name, table in tables.items():
            table.to_parquet(scratch / f"{name}.parquet", index=False)
        (scratch / _INDEX).write_text(json.dumps(index), encoding="utf-8")
        shutil.rmtree(self.folder, ignore_errors=True)
        scratch.rename(self.folder)


def _state(file: LogFile) -> list[Any]:
    return [str(file.path.resolve()), file.path.stat().st_size, file.modified]


def _fingerprint() -> str:
    """Return a hash of the code and the data that rows follow from."""
    digest = hashlib.sha256(pd.__version__.encode())
    for package in _SOURCES:
        for part in sorted(resources.files(package).iterdir(), key=lambda part: part.name):
            if part.name.endswith((".py", ".toml")):
                digest.update(part.read_bytes())
    return digest.hexdigest()
