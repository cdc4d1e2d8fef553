"""From log files to tidy tables: one row for each take, score, problem, reading and receipt, whoever wrote the log."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, wraps
from pathlib import Path

import pandas as pd
from inspect_ai.log import EvalLog, EvalSample
from tqdm import tqdm

from self_steering.analysis.tables.columns import COLUMNS, empty, table_of
from self_steering.analysis.tables.log_files import (
    LogError,
    LogFile,
    UnfinishedError,
    condition_of,
    find_logs,
    open_log,
    read_samples,
)
from self_steering.analysis.tables.rows import RolloutRows, Row
from self_steering.analysis.tables.store import LogTables, TableStore
from self_steering.analysis.tables.study import StudyLog, is_study, study_log, study_rows
from self_steering.analysis.tables.suite import is_suite_log, needs_events, offered, suite_family, suite_rows
from self_steering.evals.shards import describe_part, shard_note, whole_of
from self_steering.steering.calls import number

DETAILS = ("scores", "takes", "problems", "readouts", "receipts")
# Where the rollouts of a log differ in these, the log's own row lists what there is.
_CONDITIONS = ("arm", "framing", "intent", "tone", "primer", "visibility", "labels", "operators", "directions", "gauge")
_FOREIGN = "no task of this suite nor of the published study, and no steering tool was called in it"
# Fewer are read before other processes have started, and need not be kept.
_MANY = 16
_LONGEST = 160  # letters of a condition that are shown


@dataclass(frozen=True, eq=False)
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


def worked_out_once(measure: Callable[[Tables], pd.DataFrame]) -> Callable[[Tables], pd.DataFrame]:
    """Keep what a measure gave for the tables it was last asked for: figures, headline and answers of a report ask for the same."""
    known = lru_cache(maxsize=1)(measure)

    @wraps(measure)
    def copy_of(tables: Tables) -> pd.DataFrame:
        return known(tables).copy()

    return copy_of


def empty_tables() -> Tables:
    """Tables without a row, with all their columns."""
    return Tables(**{table: empty(table) for table in COLUMNS})


def read_tables(*paths: str | Path, progress: Callable[[int, int], None] | None = None, fresh: bool = False) -> Tables:
    """Read logs into tidy tables.

    Of many logs the tables are kept in the user's cache folder, as parquet files: a log is read again only where its size or
    time of writing has changed.

    Args:
        *paths: Folders, searched below themselves, and `.eval` or `.json` files.
        progress: Called with the number of files read and of files in all, after each of them; by default a bar is shown
            where there is a terminal.
        fresh: Read every log again.

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
    store = TableStore([file.path for file in files]) if len(files) >= _MANY else None
    kept, frames = store.load(files) if store and not fresh else ({}, {})
    found = dict(kept)
    with tqdm(total=len(files), desc="reading logs", unit="log", disable=None if progress is None else True) as bar:
        bar.update(len(kept))
        if kept and progress is not None:
            progress(len(kept), len(files))
        for log in _read_all([file for file in files if file.name not in kept]):
            found[log.file.name] = log
            bar.update()
            if progress is not None:
                progress(len(found), len(files))
    logs = [found[file.name] for file in files]
    if store and len(kept) < len(files):
        store.save(logs, _joined(logs, frames))
    return _together(_advised(_each_run_once(logs)), frames)


def read_log(file: LogFile) -> LogTables:
    """Read one file; whatever is wrong with it is told in `left_out`."""
    try:
        return _read(file)
    except UnfinishedError as error:
        return LogTables(file, left_out=str(error), unfinished=True, condition=condition_of(error.log))
    except LogError as error:
        return LogTables(file, left_out=str(error))
    except Exception as error:  # noqa: BLE001  one file that is not as expected must not stop the others
        return LogTables(file, left_out=f"its content is not as expected ({type(error).__name__}: {error})")


def _read(file: LogFile) -> LogTables:
    log = open_log(file.path)
    study = study_log(log) if is_study(log) else None
    found: dict[tuple[str, int], RolloutRows] = {}
    failed: list[EvalSample] = []
    samples = read_samples(file.path, events=study is None and needs_events(log))
    for sample in samples:
        if sample.error is not None:
            failed.append(sample)
        else:
            found[str(sample.id), sample.epoch] = study_rows(study, sample) if study else suite_rows(log, sample)
    _check(log, study, found, failed)
    about, note = _about(file, log, study), shard_note(log)
    frames = _frames(about, found)
    frames["logs"] = _log_frame(log, about, frames["rollouts"], len(samples), note.shard if note else "")
    return LogTables(
        file=file,
        frames=frames,
        eval_id=log.eval.eval_id,
        task_id=log.eval.task_id,
        created=str(log.eval.created),
        samples=len(samples),
        condition=condition_of(log),
        figures=int(frames["scores"]["value"].notna().sum()) if "scores" in frames else 0,
        edits=sum(len(score.history) for sample in samples for score in (sample.scores or {}).values()),
        left_out=_failures(failed, len(samples)) if failed else "",
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


def _about(file: LogFile, log: EvalLog, study: StudyLog | None) -> Row:
    model = log.eval.model
    return {
        "log": file.name,
        "source": "study" if study else "self_steering" if is_suite_log(log) else "other",
        "task": log.eval.task.rpartition("/")[2],
        "family": study.family if study else suite_family(log),
        "model": model.partition("/")[2] or model,
    }


def _frames(about: Row, found: dict[tuple[str, int], RolloutRows]) -> dict[str, pd.DataFrame]:
    """Return the tables of a log's rollouts; each row of a detail begins with what is said of its rollout."""
    rows: dict[str, list[Row]] = {"rollouts": [], **{name: [] for name in DETAILS}}
    for (sample, epoch), of_sample in found.items():
        key = f"{about['log']}/{sample}/{epoch}"
        rollout = {**about, "rollout": key, "sample": sample, "epoch": epoch, **of_sample.about}
        rows["rollouts"].append(rollout)
        for name in DETAILS:
            rows[name] += [rollout | row for row in getattr(of_sample, name)]
    return {name: table_of(members, name) for name, members in rows.items() if members}


def _log_frame(log: EvalLog, about: Row, rollouts: pd.DataFrame, samples: int, shard: str) -> pd.DataFrame:
    possible = rollouts["possible"].unique()
    row = {
        **about,
        **{column: ",".join(rollouts[column].unique()) for column in _CONDITIONS},
        "possible": possible[0] if len(possible) == 1 else pd.NA,
        "created": str(log.eval.created),
        "inspect": (log.eval.packages or {}).get("inspect_ai"),
        "samples": samples,
        "shard": shard,
        "dose": number(log.eval.task_args.get("dose")),
        "seed": number(log.eval.task_args.get("seed")),
        "rounds": number(log.eval.task_args.get("rounds")),
        "menu": " ".join(offered(log)),
    }
    return table_of([row], "logs")


def _read_all(files: Sequence[LogFile]) -> Iterator[LogTables]:
    """Yield what each file came to, in order; where there are many, several at a time, as the machine allows."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = min(cores, len(files) // (_MANY // 2))
    if len(files) < _MANY or processes < 2:
        yield from map(read_log, files)
        return
    executor = ProcessPoolExecutor(processes)
    try:
        yield from executor.map(read_log, files, chunksize=4)
    finally:
        executor.shutdown(cancel_futures=True)


def _each_run_once(found: Sequence[LogTables]) -> list[LogTables]:
    """Return the same without the samples of files whose run another file holds better: newer, or scored further."""
    best_first = sorted(
        (log for log in found if log.samples),
        key=lambda log: (log.created, log.figures, log.edits, log.file.modified, log.file.name),
        reverse=True,
    )
    runs: dict[str, LogTables] = {}
    tasks: dict[str, LogTables] = {}
    reasons: dict[str, str] = {}
    for log in best_first:
        if (kept := runs.setdefault(log.eval_id, log)) is not log:
            reasons[log.file.name] = f"the same run as {kept.file.name}, {_better(kept, log)}"
        elif (kept := tasks.setdefault(log.task_id, log)) is not log:
            reasons[log.file.name] = f"an earlier attempt of the run in {kept.file.name}"
    return [
        replace(log, samples=0, left_out=reasons[log.file.name]) if log.file.name in reasons else log for log in found
    ]


def _advised(found: Sequence[LogTables]) -> list[LogTables]:
    """Return the same with what to do about logs that are not finished: nothing where a finished one has their condition."""
    finished = {log.condition: log.file.name for log in found if log.samples}
    advised = []
    for log in found:
        if log.unfinished:
            twin = finished.get(log.condition)
            shown = log.condition if len(log.condition) <= _LONGEST else f"{log.condition[:_LONGEST]}…"
            advice = (
                f"nothing to do: {twin} holds the same condition, finished"
                if twin
                else f"no finished log has its condition ({shown}); finish it with `inspect eval-retry`"
            )
            log = replace(log, left_out=f"{log.left_out}; {advice}")  # noqa: PLW2901  the same log, with advice
        advised.append(log)
    return advised


def _better(kept: LogTables, other: LogTables) -> str:
    """Return what one file of a run has before another."""
    if kept.figures != other.figures:
        return f"which has more scores ({kept.figures:,} figures, {other.figures:,} here)"
    if kept.edits != other.edits:
        return f"in which scores were edited later ({kept.edits:,} edits, {other.edits:,} here)"
    return "which was written later"


def _joined(found: Sequence[LogTables], kept: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return the rows of logs, those that were read before among them, in the order of the logs."""
    place = {log.file.name: number for number, log in enumerate(found) if log.samples}
    joined = {}
    for table in COLUMNS:
        parts = [kept[table][kept[table]["log"].isin(place)]] if table in kept else []
        parts += [log.frames[table] for log in found if table in log.frames and log.samples]
        rows = pd.concat(parts, ignore_index=True) if parts else empty(table)
        order = rows["log"].map(place).sort_values(kind="stable").index
        joined[table] = rows.loc[order].reset_index(drop=True)
    return joined


def _together(found: Sequence[LogTables], kept: Mapping[str, pd.DataFrame]) -> Tables:
    left_out = [{"log": log.file.name, "reason": log.left_out} for log in found if log.left_out]
    joined = _joined(found, kept)
    left_out += [{"log": log, "reason": reason} for log, reason in _parts_alone(found, joined["logs"])]
    if left_out:
        joined["left_out"] = table_of(left_out, "left_out")
    return Tables(**joined)


def _parts_alone(found: Sequence[LogTables], logs: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Yield, for each eval of which some shards are not among the logs, its first shard and what was read of it."""
    wholes: dict[str, list[LogTables]] = {}
    for log in found:
        if log.samples and log.shard:
            wholes.setdefault(log.whole, []).append(log)
    tasks = logs.set_index("log")["task"]
    for first, *others in wholes.values():
        parts = [first, *others]
        samples = sum(log.samples for log in parts)
        if first.shard and samples < first.shard.of_samples:
            task, name = str(tasks[first.file.name]), first.file.name
            yield name, describe_part(task, first.shard, samples, [log.shard.shard for log in parts if log.shard])
