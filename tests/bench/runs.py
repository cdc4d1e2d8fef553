"""The benchmark's own evals."""

import tempfile
import time
from typing import Any

from inspect_ai import Task
from inspect_ai import eval as inspect_eval
from inspect_ai.event import ModelEvent
from inspect_ai.log import EvalLog, read_eval_log
from inspect_ai.model import Model


def run(task: Task, model: Model | str, **options: Any) -> tuple[EvalLog, float]:
    """Return the log of an eval, its samples with it, and the seconds that the eval took.

    Raises:
        RuntimeError: The eval failed.
    """
    with tempfile.TemporaryDirectory() as logs:
        started = time.perf_counter()
        (log,) = inspect_eval(task, model=model, log_dir=logs, display="none", **options)
        seconds = time.perf_counter() - started
        if log.status != "success":
            raise RuntimeError(f"the benchmark's own run failed: {log.error}")
        # What eval() returns reads its samples from the file when they are asked for, and the folder is gone by then.
        return read_eval_log(log.location), seconds


def model_events(log: EvalLog) -> list[list[ModelEvent]]:
    """Return the model's turns, sample by sample."""
    return [[event for event in sample.events if isinstance(event, ModelEvent)] for sample in log.samples or []]
