"""The scores of any finished log as text, intervals beside their means; shards of one eval are read together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from inspect_ai.log import EvalLog, EvalScore, list_eval_logs, read_eval_log

from self_steering.analysis.drawing.words import text_table
from self_steering.analysis.report.summary import SUMMARIES, Row, summarise
from self_steering.analysis.tables.log_files import LogError, check_depth, read_samples
from self_steering.evals.shards import ShardNote, describe_part, shard_note, whole_of


def metrics_table(log: EvalLog) -> str:
    """Return every score of a log, cell by cell: ours worked out from its samples, other suites' scorers as it carries them.

    Raises:
        ValueError: The log is not finished, or holds no score.
    """
    if log.status != "success" or log.results is None:
        raise ValueError(f"{log.location} is not finished (status {log.status}); finish it with `inspect eval-retry`")
    places = {str(id_): place for place, id_ in enumerate(log.eval.dataset.sample_ids or [])}
    samples = sorted(log.samples or [], key=lambda sample: places.get(str(sample.id), len(places)))
    found = summarise(samples)
    ours = {row.scorer for row in found} | SUMMARIES.keys()
    foreign = [score for score in log.results.scores if score.scorer not in ours]
    rows = [row for score in foreign for row in _foreign_rows(score)] + [_row(row) for row in found]
    if not rows:
        raise ValueError(f"{log.location} holds no score; was it scored? `inspect score` does it later")
    columns = ["score", "metric", "value", "95 % interval"]
    columns += [*dict.fromkeys(name for row in rows for name in row if name.startswith(_BY)), "samples"]
    table = text_table([{name: row.get(name, "") for name in columns} for row in rows])
    return f"{log.eval.task}, {log.eval.model}\n\n{table}"


_BY = "by "


def _row(row: Row) -> dict[str, str]:
    figure = row.figure
    cells = {
        "score": row.score,
        "metric": row.cell,
        "value": f"{figure.value:.4f}",
        "95 % interval": _interval(figure.interval),
        "samples": f"{row.scored} of {row.samples}",
    }
    return cells | ({f"{_BY}{figure.second_by}": _interval(figure.second)} if figure.second else {})


def _foreign_rows(score: EvalScore) -> Iterator[dict[str, str]]:
    samples = f"{score.scored_samples} of {(score.scored_samples or 0) + (score.unscored_samples or 0)}"
    for metric in score.metrics.values():
        yield {"score": score.name, "metric": metric.name, "value": f"{metric.value:.4f}", "samples": samples}


def _interval(bounds: tuple[float, float] | None) -> str:
    return "" if bounds is None else f"[{bounds[0]:.4f}, {bounds[1]:.4f}]"


@dataclass(frozen=True)
class PooledLog:
    """One eval.

    Attributes:
        log: Its log; of an eval in shards the newest shard's, with the samples of all.
        files: The log files.
        note: Which samples are not in it; empty where all are.
    """

    log: EvalLog
    files: list[Path]
    note: str


def newest_logs(folder: str) -> list[Path]:
    """Return the newest log below a folder or, where it is a shard, all shards of its eval; none where there is no log."""
    found = [_path(info.name) for info in list_eval_logs(folder)]
    if not found or (note := shard_note(newest := read_log_file(found[0], header_only=True))) is None:
        return found[:1]
    root = found[0].parent.parent  # shards lie side by side, each in a folder of its own
    return [
        file
        for file, log in _headers([root])
        if (other := shard_note(log)) and whole_of(log, other) == whole_of(newest, note)
    ]


def pooled_logs(paths: Sequence[str | Path]) -> list[PooledLog]:
    """Return the evals of logs; shards of one eval are one.

    Args:
        paths: Log files, and folders, which are searched below themselves.

    Raises:
        LogError: A path is no log, or two shards hold the same sample.
    """
    found: list[PooledLog] = []
    shards: dict[str, list[tuple[Path, EvalLog, ShardNote]]] = {}
    for file, header in _headers(paths):
        if note := shard_note(header):
            shards.setdefault(whole_of(header, note), []).append((file, header, note))
        else:
            found.append(PooledLog(read_log_file(file), [file], ""))
    return [*found, *map(_pooled, shards.values())]


def _pooled(parts: Sequence[tuple[Path, EvalLog, ShardNote]]) -> PooledLog:
    """Return shards as one log."""
    of_shard: dict[str, tuple[Path, EvalLog, ShardNote]] = {}
    for part in sorted(parts, key=lambda part: part[1].eval.created):
        _, header, noted = part
        # Of a shard that was tried again the last finished one; an unfinished one says so where it is alone.
        if header.status == "success" or noted.shard not in of_shard:
            of_shard[noted.shard] = part
    done = [part for part in of_shard.values() if part[1].status == "success"] or list(of_shard.values())[:1]
    files, shards = [file for file, _, _ in done], [noted for _, _, noted in done]
    logs = [read_log_file(file) for file in files]
    whole, samples = logs[-1], [sample for log in logs for sample in log.samples or []]
    if len({(sample.id, sample.epoch) for sample in samples}) < len(samples):
        names = ", ".join(file.as_posix() for file in files)
        raise LogError(f"shards of {whole.eval.task} hold the same sample twice: {names}; name one sweep's folder")
    if len(logs) > 1:
        whole.samples = samples
    short = len(samples) < shards[0].of_samples
    said = describe_part(whole.eval.task, shards[0], len(samples), [one.shard for one in shards]) if short else ""
    return PooledLog(whole, files, said)


def _headers(paths: Sequence[str | Path]) -> Iterator[tuple[Path, EvalLog]]:
    """Yield each log file below the paths, and its log without samples."""
    for given in map(_path, map(str, paths)):
        files = sorted(_path(info.name) for info in list_eval_logs(str(given))) if given.is_dir() else [given]
        if not files:
            raise LogError(f"no log in the folder {given}; name another, or run an eval with `--log-dir` first")
        for file in files:
            yield file, read_log_file(file, header_only=True)


def read_log_file(path: Path, *, header_only: bool = False) -> EvalLog:
    """Return a log, without its events.

    Raises:
        LogError: It is none, or it cannot be read.
    """
    if not path.is_file():
        raise LogError(f"{path} is no log file; name one, such as logs/….eval")
    try:
        check_depth(path)
        log = read_eval_log(str(path), header_only=True)
        return log if header_only else log.model_copy(update={"samples": read_samples(path)})
    except Exception as error:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise LogError(
            f"{path} is no Inspect log, cut off, or broken ({said}); name another, or run the eval again"
        ) from error


def _path(name: str) -> Path:
    return Path(unquote(name.removeprefix("file://")))
