"""The evaluation reports of the entries for inspect_evals' register, from logs: command, commit, version, models, figures."""

import math
import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from inspect_ai.log import EvalLog, read_eval_log_samples

from self_steering.analysis.report.terminal import pooled_logs
from self_steering.analysis.tables.log_files import LogError
from self_steering.steering.bundled.conversion import BUNDLED
from self_steering.steering.request import METADATA_KEY

ENTRY_FILE = "eval.yaml"
WANTED = "nnsight/Qwen/Qwen3-8B"
_WAITING = f"Not run yet: {WANTED}. Its row belongs below."
_ORGANISM = (
    f"nnsight/{BUNDLED} is our organism, trained to do this: it shows that the instrument works, and nothing of what models "
    "are like."
)
_REPORT = re.compile(r"^(evaluation_report:|# No evaluation_report)", re.MULTILINE)
_DIGITS = 4


def write_reports(paths: Sequence[str | Path], entries: Path) -> list[Path]:
    """Write the evaluation report of each entry whose task the logs are of; entries of other tasks stay as they are.

    Args:
        paths: Log files, and folders of them: of a task one log a model, of one commit and with the same parameters.
        entries: Folder of the entries, one a task: `NAME/eval.yaml`.

    Returns:
        The files that were written.

    Raises:
        LogError: A log is not finished, of a task without an entry, of uncommitted code, or does not belong beside another.
    """
    logs: defaultdict[str, list[EvalLog]] = defaultdict(list)
    for one in pooled_logs(paths):
        logs[one.log.eval.task.rpartition("/")[2]].append(one.log)
    known = sorted(path.parent.name for path in entries.glob(f"*/{ENTRY_FILE}"))
    if missing := sorted(logs.keys() - set(known)):
        raise LogError(f"no entry in {entries} for {', '.join(missing)}; there are {', '.join(known) or 'none'}")
    reports = {name: evaluation_report(of_task) for name, of_task in logs.items()}
    written = []
    for name, report in reports.items():
        path = entries / name / ENTRY_FILE
        entry = _REPORT.split(path.read_text(encoding="utf-8"))[0]
        section = yaml.safe_dump({"evaluation_report": report}, sort_keys=False, allow_unicode=True, width=1000)
        path.write_text(f"{entry}{section}", encoding="utf-8")
        written.append(path)
    return written


def evaluation_report(logs: Sequence[EvalLog]) -> dict[str, Any]:
    """Return the report of one task: its headline metrics as the logs carry them, a row a model.

    Args:
        logs: The task's logs, one a model.

    Raises:
        LogError: As in `write_reports`.
    """
    for log in logs:
        _check_alone(log)
    first = logs[0]
    for name, of_log in (("commit", _commit), ("version", _version), ("parameters", _parameters)):
        if len({repr(of_log(log)) for log in logs}) > 1:
            raise LogError(
                f"logs of {first.eval.task} differ in {name}: {' and '.join(repr(of_log(log)) for log in logs)}; name those of one "
                "commit and one set of parameters"
            )
    models = [log.eval.model for log in logs]
    if twice := sorted({model for model in models if models.count(model) > 1}):
        raise LogError(f"{first.eval.task} has several logs of {', '.join(twice)}; name one of each model")
    notes = [
        *(_about(log) for log in logs),
        *([_ORGANISM] if f"nnsight/{BUNDLED}" in models else []),
        *([_WAITING] if WANTED not in models else []),
    ]
    task = first.eval.task.rpartition("/")[2]
    return {
        "command": shlex.join(
            ["inspect", "eval", f"self_steering/{task}", "--model", ",".join(models), *_parameters(first)]
        ),
        "commit": _commit(first),
        "version": _version(first),
        "notes": notes,
        "results": [{"model": log.eval.model, "task": task, "metrics": list(_metrics(log))} for log in logs],
    }


def _check_alone(log: EvalLog) -> None:
    if log.status != "success" or log.results is None:
        raise LogError(f"{log.location} is not finished (status {log.status}); finish it with `inspect eval-retry`")
    if log.eval.revision is None or log.eval.revision.dirty:
        raise LogError(
            f"{log.location} is of code that is not committed, so nobody can run it again; commit, and run it again"
        )


def _commit(log: EvalLog) -> str:
    assert log.eval.revision is not None
    return log.eval.revision.commit


def _version(log: EvalLog) -> str:
    return str(log.eval.task_version)


def _parameters(log: EvalLog) -> list[str]:
    return [part for name, value in log.eval.task_args_passed.items() for part in ("-T", f"{name}={_shown(value)}")]


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(_shown, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _about(log: EvalLog) -> str:
    samples = log.samples or []
    whole = read_eval_log_samples(log.location, all_samples_required=False)
    weights = next((found for one in whole if (found := _fingerprint(one.output.metadata))), None)
    stats = log.stats
    took = datetime.fromisoformat(stats.completed_at) - datetime.fromisoformat(stats.started_at)
    minutes, seconds = divmod(round(took.total_seconds()), 60)
    said = f"{log.eval.model}: {len(samples)} samples in {minutes} minutes {seconds} seconds"
    return f"{said}, weights {weights}." if weights else f"{said}."


def _fingerprint(metadata: Mapping[str, Any] | None) -> str | None:
    return ((metadata or {}).get(METADATA_KEY) or {}).get("fingerprint")


def _metrics(log: EvalLog) -> Iterable[dict[str, Any]]:
    assert log.results is not None
    for score in log.results.scores:
        for name, metric in score.metrics.items():
            if not math.isnan(metric.value):
                yield {"key": name, "value": round(float(metric.value), _DIGITS)}
