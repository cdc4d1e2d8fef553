"""Tokens that samples took, counted from logs: from each generation's own usage, by task and condition."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from inspect_ai.event import ModelEvent
from inspect_ai.log import EvalLog, EvalSample

from self_steering.analysis.tables.log_files import find_logs, open_log, read_samples
from self_steering.evals.sweep import TASKS
from self_steering.evals.token_counts import CONDITION, TokenCount, TokenCountsError, sizes_of


@dataclass(frozen=True)
class _Used:
    """Tokens of one sample, as `TokenCount` has them."""

    requests: int
    prompt: int
    computed: int
    decoded: int
    longest: int


def measure_tokens(paths: Sequence[Path]) -> list[TokenCount]:
    """Count the tokens of all samples in logs of this suite.

    Those of graders and monitors are other models' and left out. Logs whose samples differ in what the number of tokens depends
    on (`token_counts.SIZES`) are kept apart by nothing, and so refused.

    Args:
        paths: Folders, searched below themselves, and log files.

    Raises:
        TokenCountsError: There is no such log, or two of one task have other sizes or models.
        ValueError: A path does not exist, or a folder holds no log.
    """
    used: dict[tuple[str, ...], list[_Used]] = {}
    about: dict[str, tuple[str, str]] = {}
    for file in find_logs(paths):
        log = open_log(file.path)
        task = log.eval.task.rpartition("/")[2]
        if task not in TASKS:
            continue
        of_log = (log.eval.model.partition("/")[2], sizes_of(log.eval.task_args))
        if about.setdefault(task, of_log) != of_log:
            raise TokenCountsError(f"{file.name}: {task} with {of_log} beside {about[task]}; measure them apart")
        for sample in read_samples(file.path, log, events=True):
            if sample.error is None:
                used.setdefault((task, *_condition(sample)), []).append(_used(log, sample))
    if not used:
        raise TokenCountsError(
            f"no sample of {', '.join(TASKS)} in {', '.join(map(str, paths))}; run `self-steering sweep tokens`"
        )
    return [_count(key, about[key[0]], of_key) for key, of_key in sorted(used.items())]


def _condition(sample: EvalSample) -> list[str]:
    return [str((sample.metadata or {}).get(name, "")) for name in CONDITION]


def _used(log: EvalLog, sample: EvalSample) -> _Used:
    usages = [usage for event in _own_generations(log, sample) if (usage := event.output.usage) is not None]
    if not usages:
        raise TokenCountsError(f"{log.location}: sample {sample.id} tells no usage; run it with this version")
    reused = sum(usage.input_tokens_cache_read or 0 for usage in usages)
    computed = sum(usage.input_tokens for usage in usages)
    return _Used(
        requests=len(usages),
        prompt=computed + reused,
        computed=computed,
        decoded=sum(max(0, usage.output_tokens - 1) for usage in usages),
        longest=max(usage.total_tokens for usage in usages),
    )


def _own_generations(log: EvalLog, sample: EvalSample) -> Iterator[ModelEvent]:
    # Roles (graders, monitors) are other models, or other uses of this one.
    names = {log.eval.model, log.eval.model.partition("/")[2]}
    for event in sample.events:
        if isinstance(event, ModelEvent) and event.role is None and event.model in names:
            yield event


def _count(key: Sequence[str], about: tuple[str, str], used: Sequence[_Used]) -> TokenCount:
    task, framing, arm, primer = key
    decoded = [one.decoded for one in used]
    return TokenCount(
        task=task,
        framing=framing,
        arm=arm,
        primer=primer,
        model=about[0],
        sizes=about[1],
        samples=len(used),
        requests=sum(one.requests for one in used),
        prompt=sum(one.prompt for one in used),
        computed=sum(one.computed for one in used),
        decoded=sum(decoded),
        decoded_least=min(decoded),
        decoded_most=max(decoded),
        longest=max(one.longest for one in used),
    )
