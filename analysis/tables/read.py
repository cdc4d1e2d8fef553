"""From log files to tidy tables: one row for each take, score, problem, reading and receipt, whoever wrote the log."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from self_steering.analysis.tables.column_types import empty, typed
from self_steering.analysis.tables.columns import COLUMNS
from self_steering.analysis.tables.log_files import LogFile, find_logs
from self_steering.analysis.tables.log_tables import LogTables, read_log
from self_steering.evals.shard_note import part_said

# Fewer are read before other processes have started.
_WORTH_A_POOL = 16
_MOST_PROCESSES = 8


@dataclass(frozen=True)
class Tables:
    """The tidy tables of the logs that were read together; `COLUMNS` says what each column means.

    Attributes:
        logs: One row a log that is in the other tables.
        rollouts: One row a rollout: a sample in one epoch.
        scores: One row a figure of a scorer in a rollout.
        takes: One row a take call, failed and scripted ones too, in call order within its rollout.
        problems: One row a problem that a rollout was given.
        readouts: One row an option of a reading.
        receipts: One row a window of a reading or of a message, as the engine steered it.
        left_out: One row a file that is in no other table, or of which samples are not, with the reason.
    """

    logs: pd.DataFrame
    rollouts: pd.DataFrame
    scores: pd.DataFrame
    takes: pd.DataFrame
    problems: pd.DataFrame
    readouts: pd.DataFrame
    receipts: pd.DataFrame
    left_out: pd.DataFrame


def empty_tables() -> Tables:
    """Tables without a row, with all their columns."""
    return Tables(**{table: empty(table) for table in COLUMNS})


def read_tables(*paths: str | Path, progress: Callable[[int, int], None] | None = None) -> Tables:
    """Read logs into tidy tables.

    Args:
        *paths: Folders, searched below themselves, and `.eval` or `.json` files.
        progress: Called with the number of files read and of files in all, after each of them; by default a bar is shown
            where there is a terminal.

    Returns:
        The tables; files that could not be used are in `left_out`, with the reason.

    Raises:
        ValueError: A path does not exist, or there is no log in one of the folders.
    """
    files = find_logs(paths)
    found: list[LogTables] = []
    with tqdm(total=len(files), desc="reading logs", unit="log", disable=None if progress is None else True) as bar:
        for done, log in enumerate(_read_all(files), start=1):
            found.append(log)
            bar.update()
            if progress is not None:
                progress(done, len(files))
    return _together(_each_run_once(found))


def _read_all(files: Sequence[LogFile]) -> Iterator[LogTables]:
    """Yield what each file came to, in order, reading several at a time where there are many."""
    processes = min(_MOST_PROCESSES, os.cpu_count() or 1)
    if len(files) < _WORTH_A_POOL or processes == 1:
        yield from map(read_log, files)
        return
    executor = ProcessPoolExecutor(processes)
    try:
        yield from executor.map(read_log, files)
    finally:
        executor.shutdown(cancel_futures=True)


def _each_run_once(found: Sequence[LogTables]) -> list[LogTables]:
    """Return the same without the rows of files whose run another, newer file holds."""
    newest_first = sorted(
        (log for log in found if log.frames),
        key=lambda log: (log.created, log.file.modified, log.file.name),
        reverse=True,
    )
    runs: dict[str, LogTables] = {}
    tasks: dict[str, LogTables] = {}
    reasons: dict[str, str] = {}
    for log in newest_first:
        if (kept := runs.setdefault(log.eval_id, log)) is not log:
            reasons[log.file.name] = f"the same run as {kept.file.name}, which was written later"
        elif (kept := tasks.setdefault(log.task_id, log)) is not log:
            reasons[log.file.name] = f"an earlier attempt of the run in {kept.file.name}"
    return [
        replace(log, frames={}, left_out=reasons[log.file.name]) if log.file.name in reasons else log for log in found
    ]


def _together(found: Sequence[LogTables]) -> Tables:
    left_out = [{"log": log.file.name, "reason": log.left_out} for log in found if log.left_out]
    left_out += [{"log": log.file.name, "reason": reason} for log, reason in _parts_alone(found)]
    parts = {table: [log.frames[table] for log in found if table in log.frames] for table in COLUMNS}
    if left_out:
        parts["left_out"] = [typed(pd.DataFrame(left_out), "left_out")]
    return Tables(
        **{table: pd.concat(some, ignore_index=True) if some else empty(table) for table, some in parts.items()}
    )


def _parts_alone(found: Sequence[LogTables]) -> Iterator[tuple[LogTables, str]]:
    """Yield, for each eval of which some shards are not among the logs, its first shard and what was read of it."""
    wholes: dict[str, list[LogTables]] = {}
    for log in found:
        if log.frames and log.shard:
            wholes.setdefault(log.whole, []).append(log)
    for first, *others in wholes.values():
        logs = [first, *others]
        samples = sum(int(log.frames["logs"]["samples"].iloc[0]) for log in logs)
        if first.shard and samples < first.shard.of_samples:
            task = str(first.frames["logs"]["task"].iloc[0])
            yield first, part_said(task, first.shard, samples, [log.shard.shard for log in logs if log.shard])
