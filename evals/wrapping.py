"""Another suite's task, found as Inspect finds it, and steered: all of it is kept, and its solver is handed the steering tools."""
# inspect-evals-lint: ignore-file[IECQ001] -- Inspect has no public way to make a task from FILE.py@name

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inspect_ai import Task, list_tasks, task_with

# What `inspect eval NAME` itself finds tasks with.
from inspect_ai._eval.loader import load_tasks, resolve_task_sandbox
from inspect_ai._eval.task.util import task_run_dir
from inspect_ai._util.error import PrerequisiteError
from inspect_ai._util.registry import registry_params
from inspect_ai.dataset import Sample
from inspect_ai.util import SandboxEnvironmentSpec

from self_steering.evals.parameters import default_model
from self_steering.scorers.self_steer import account_scorers, self_steer_scorer
from self_steering.solvers.records import needs_neutral
from self_steering.solvers.self_steer import self_steer

VERSION = "1-A"  # of how tasks are steered; that of the task itself is in the metadata
EXAMPLES = "inspect_evals/gsm8k (after `pip install inspect-evals`), or FILE.py@name"


def load_task(name: str, arguments: Mapping[str, Any]) -> Task:
    """Make the task that `inspect eval NAME` would run.

    Args:
        name: A registered task such as inspect_evals/gsm8k, or FILE.py@name; a relative file is looked up where the shell is, too.
        arguments: The task's arguments.

    Raises:
        ValueError: There is no such task, there are several, or it has no such argument.
    """
    path, at, _ = name.rpartition("@")
    found = _from_file(name, path if at else name, arguments) if ".py" in name else load_tasks([name], dict(arguments))
    if len(found) != 1:
        raise ValueError(f"task={name!r} is unknown. A task is {EXAMPLES}")
    unused = sorted(set(arguments) - set(registry_params(found[0])))
    if unused:
        raise ValueError(f"task_args: {name} has no argument {', '.join(unused)}; see its own documentation")
    return found[0]


def steered(task: Task, *, experiment: str, wrapped: str, seed: int, debrief: bool, **options: Any) -> Task:
    """Hand the steering tools to a task's solver; its data, prompts, tools, scorers, limits, epochs and sandbox stay.

    What the model took is scored beside the task's own scores, unless the task lays metrics over all its scorers: they would
    stand for ours too. `inspect score LOG --scorer self_steering/self_steer_scorer --action append` adds it then.

    Args:
        task: A task; it is changed.
        experiment: Our experiment.
        wrapped: The task's name.
        seed: Of menus, labels, random directions and sampling.
        debrief: Whether the model is asked at the end what it took.
        options: Of the solver `self_steer`.
    """
    _anchor(task)
    if task.metrics is None:
        # Ours last: agents with several attempts judge an answer by the first score.
        task.scorer = [*(task.scorer or []), self_steer_scorer(), *account_scorers(debrief)]
    if (
        task.model is None
        and (model := default_model(options["library"], neutral=needs_neutral(options["operators"], ()))) is not None
    ):
        task = task_with(task, model=model)
    return task_with(
        task,
        solver=self_steer(base=task.solver, seed=seed, debrief=debrief, **options),
        version=VERSION,
        metadata={
            **(task.metadata or {}),
            "experiment": experiment,
            "wrapped": wrapped,
            "wrapped_version": task.version,
            "seed": seed,
        },
        tags=[*(task.tags or []), experiment],
    )


def _from_file(name: str, path: str, arguments: Mapping[str, Any]) -> list[Task]:
    file = _file(path)
    names = [info.name for info in list_tasks(file.name, root_dir=file.parent)]
    inner = name.removeprefix(f"{path}@") if name != path else names[0] if len(names) == 1 else None
    if inner is None:
        raise ValueError(f"task={name!r}: the file has the tasks {', '.join(names) or 'none'}; name one: {path}@NAME")
    try:
        return load_tasks([f"{file}@{inner}"], dict(arguments))
    except PrerequisiteError as error:
        if inner in names:
            raise
        raise ValueError(
            f"task={name!r}: the file has no task {inner!r}; it has {', '.join(names) or 'none'}"
        ) from error


def _file(path: str) -> Path:
    # Inspect changes into a task file's folder before it makes the task.
    places = [Path.cwd(), Path(os.environ.get("PWD", "."))]
    found = next((place / path for place in places if (place / path).is_file()), None)
    if found is None:
        tried = ", ".join(dict.fromkeys(str((place / path).absolute()) for place in places))
        raise ValueError(f"task={path!r}: there is no such file (looked for {tried}). A task is {EXAMPLES}")
    return found.resolve()


def _anchor(task: Task) -> None:
    """Make relative paths absolute: Inspect would look them up beside our task, and no longer beside the wrapped one."""
    folder = Path(task_run_dir(task))
    task.sandbox = resolve_task_sandbox(task, None)
    for sample in task.dataset:
        if sample.files:
            sample.files = {name: _absolute(source, folder) for name, source in sample.files.items()}
        if sample.setup:
            sample.setup = _absolute(sample.setup, folder)
        if sample.sandbox is not None and isinstance(sample.sandbox.config, str):
            _set_config(sample, sample.sandbox, _absolute(sample.sandbox.config, folder))


def _set_config(sample: Sample, sandbox: SandboxEnvironmentSpec, config: str) -> None:
    sample.sandbox = SandboxEnvironmentSpec(sandbox.type, config)


def _absolute(source: str, folder: Path) -> str:
    """Return `source` as an absolute path where it names something in `folder`; else as it is, such as a file's contents."""
    try:
        return str((folder / source).resolve()) if source and (folder / source).exists() else source
    except (OSError, ValueError):
        return source  # Too long for a path, or with characters that no path has: contents.
