"""One log file as its part of each table, or the reason why it is in none."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd
from inspect_ai.analysis import Column, EvalColumn, evals_df
from inspect_ai.log import EvalLog, EvalSample

from self_steering.analysis.tables.column_types import typed
from self_steering.analysis.tables.columns import COLUMNS
from self_steering.analysis.tables.log_files import LogError, LogFile, open_log, read_samples
from self_steering.analysis.tables.log_rows import RolloutRows, Row
from self_steering.analysis.tables.own_logs import is_own, needs_events, own_family, own_rows
from self_steering.analysis.tables.study_conditions import StudyLog, is_study, study_log
from self_steering.analysis.tables.study_logs import study_rows
from self_steering.evals.shard_note import ShardNote, shard_note, whole_of
from self_steering.steering.take_calls import number

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
            found[str(sample.id), sample.epoch] = study_rows(study, sample) if study else own_rows(log, sample)
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
        left_out=_told(failed, len(found) + len(failed)) if failed else "",
        shard=note,
        whole=whole_of(log, note) if note else "",
    )


def _check(
    log: EvalLog, study: StudyLog | None, found: dict[tuple[str, int], RolloutRows], failed: Sequence[EvalSample]
) -> None:
    if not found:
        raise LogError(_told(failed, len(failed)) if failed else "it holds no sample")
    if study is None and not is_own(log) and not any(rows.takes for rows in found.values()):
        raise LogError(_FOREIGN)


def _told(failed: Sequence[EvalSample], count: int) -> str:
    first = failed[0]
    message = str(first.error.message if first.error else "").splitlines() or ["no reason given"]
    return f"{len(failed)} of {count} samples failed and are in no table, first {first.id}: {message[0][:200]}"


def _about(file: LogFile, log: EvalLog, study: StudyLog | None, header: pd.Series) -> Row:
    return {
        "log": file.name,
        "source": "study" if study else "self_steering" if is_own(log) else "other",
        "task": header["task"],
        "family": study.family if study else own_family(log),
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
