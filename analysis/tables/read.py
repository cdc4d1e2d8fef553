"""From log files to tidy tables: one row for each take, score, problem, reading and receipt, whoever wrote the log."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
from inspect_ai.analysis import Column, EvalColumn, evals_df
from inspect_ai.log import EvalLog, EvalSample
from tqdm import tqdm

from self_steering.analysis.tables.columns import COLUMNS, empty, typed
from self_steering.analysis.tables.log_files import LogError, LogFile, find_logs, open_log, read_samples
from self_steering.analysis.tables.rows import RolloutRows, Row
from self_steering.analysis.tables.study import StudyLog, is_study, study_log, study_rows
from self_steering.analysis.tables.suite import is_suite_log, needs_events, suite_family, suite_rows
from self_steering.evals.shards import ShardNote, describe_part, shard_note, whole_of
from self_steering.steering.calls import number

DETAILS = ("scores", "takes", "problems", "readouts", "receipts")
# Where the rollouts of a log differ in these, the log's own row lists what there is.
_CONDITIONS = ("arm", "framing", "intent", "tone", "primer", "visibility")
_FOREIGN = "no task of this suite nor of the published study, and no steering tool was called in it"
_HEADER: list[Column] = [
    EvalColumn("task", path="eval.task", value=lambda name: str(name).rpartition("/")[2]),
    EvalColumn("model", path="eval.model", value=lambda name: str(name).partition("/")[2] or str(name)),
    EvalColumn("created", path="eval.created"),
    EvalColumn("inspect", path="eval.packages.inspect_ai"),
    EvalColumn("dose", path="eval.task_args.dose"),
    EvalColumn("seed", path="eval.task_args.seed"),
]
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

    Example:
        `folder` holds logs of free play under the arms real and placebo:

        >>> tables = read_tables(folder)
        >>> tables.takes.groupby("arm")["name"].value_counts().to_dict()
        {('placebo', 'calm'): 1, ('real', 'calm'): 2, ('real', 'creative'): 1}
        >>> tables.rollouts[["model", "framing", "arm", "takes"]].iloc[0].to_dict()
        {'model': 'Qwen', 'framing': 'drugs', 'arm': 'real', 'takes': 3}
        >>> len(tables.left_out)
        0
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


@dataclass(frozen=True)
class LogTables:
    """What one file came to.

    Attributes:
        file: The file.
        frames: Its part of each table that it has rows in; empty where it is in none.
        eval_id: What no other run has.
        task_id: What a run shares with its retries.
        created: When the run began.
        left_out: Why the file is in no table, or which of its samples are in none.
        shard: Which part of a sweep it is; None where it holds all of its eval.
        whole: What the shards of one eval share; empty likewise.
    """

    file: LogFile
    frames: dict[str, pd.DataFrame] = field(default_factory=dict)
    eval_id: str = ""
    task_id: str = ""
    created: str = ""
    left_out: str = ""
    shard: ShardNote | None = None
    whole: str = ""


def read_log(file: LogFile) -> LogTables:
    """Read one file; whatever is wrong with it is told in `left_out`."""
    try:
        return _read(file)
    except LogError as error:
        return LogTables(file, left_out=str(error))
    except Exception as error:  # noqa: BLE001  one file that is not as expected must not stop the others
        return LogTables(file, left_out=f"its content is not as expected ({type(error).__name__}: {error})")


def _read(file: LogFile) -> LogTables:
    log = open_log(file.path)
    study = study_log(log) if is_study(log) else None
    found: dict[tuple[str, int], RolloutRows] = {}
    failed: list[EvalSample] = []
    for sample in read_samples(file.path, log, events=study is None and needs_events(log)):
        if sample.error is not None:
            failed.append(sample)
        else:
            found[str(sample.id), sample.epoch] = study_rows(study, sample) if study else suite_rows(log, sample)
    _check(log, study, found, failed)
    header = evals_df(log, columns=_HEADER, quiet=True).iloc[0]
    frames = _frames(_about(file, log, study, header), found)
    note = shard_note(log)
    frames["logs"] = _log_frame(header, frames["rollouts"], len(found) + len(failed), note.shard if note else "")
    return LogTables(
        file=file,
        frames=frames,
        eval_id=log.eval.eval_id,
        task_id=log.eval.task_id,
        created=str(log.eval.created),
        left_out=_failures(failed, len(found) + len(failed)) if failed else "",
        shard=note,
        whole=whole_of(log, note) if note else "",
    )


def _check(
    log: EvalLog, study: StudyLog | None, found: dict[tuple[str, int], RolloutRows], failed: Sequence[EvalSample]
) -> None:
    if not found:
        raise LogError(_failures(failed, len(failed)) if failed else "it holds no sample")
    if study is None and not is_suite_log(log) and not any(rows.takes for rows in found.values()):
        raise LogError(_FOREIGN)


def _failures(failed: Sequence[EvalSample], count: int) -> str:
    first = failed[0]
    message = str(first.error.message if first.error else "").splitlines() or ["no reason given"]
    return f"{len(failed)} of {count} samples failed and are in no table, first {first.id}: {message[0][:200]}"


def _about(file: LogFile, log: EvalLog, study: StudyLog | None, header: pd.Series) -> Row:
    return {
        "log": file.name,
        "source": "study" if study else "self_steering" if is_suite_log(log) else "other",
        "task": header["task"],
        "family": study.family if study else suite_family(log),
        "model": header["model"],
    }


def _frames(about: Row, found: dict[tuple[str, int], RolloutRows]) -> dict[str, pd.DataFrame]:
    rows: list[Row] = []
    details: dict[str, list[Row]] = {name: [] for name in DETAILS}
    for (sample, epoch), rollout in found.items():
        key = f"{about['log']}/{sample}/{epoch}"
        rows.append({**about, "rollout": key, "sample": sample, "epoch": epoch, **rollout.about})
        for name, members in details.items():
            members += [{"rollout": key, **row} for row in getattr(rollout, name)]
    rollouts = typed(pd.DataFrame(rows), "rollouts")
    filled = {name: _detail(name, rollouts, members) for name, members in details.items() if members}
    return {"rollouts": rollouts, **filled}


def _detail(table: str, rollouts: pd.DataFrame, rows: Sequence[Row]) -> pd.DataFrame:
    """Return rows with what is said of their rollouts before them."""
    frame = pd.DataFrame(rows)
    shared = [column for column in COLUMNS[table] if column in rollouts and column not in frame]
    return typed(rollouts[["rollout", *shared]].merge(frame, on="rollout", validate="one_to_many"), table)


def _log_frame(header: pd.Series, rollouts: pd.DataFrame, samples: int, shard: str) -> pd.DataFrame:
    first = rollouts.iloc[0]
    possible = rollouts["possible"].unique()
    row = {
        **{column: first[column] for column in ("log", "source", "task", "family", "model")},
        **{column: ",".join(rollouts[column].unique()) for column in _CONDITIONS},
        "possible": possible[0] if len(possible) == 1 else pd.NA,
        "created": header["created"],
        "inspect": header["inspect"],
        "samples": samples,
        "shard": shard,
        "dose": _figure(header["dose"]),
        "seed": _figure(header["seed"]),
    }
    return typed(pd.DataFrame([row]), "logs")


def _figure(value: object) -> float:
    return math.nan if pd.isna(value) else number(value)


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
            yield first, describe_part(task, first.shard, samples, [log.shard.shard for log in logs if log.shard])
