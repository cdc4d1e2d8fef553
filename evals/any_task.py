"""Any Inspect task, done by a model that may steer itself.

    inspect eval evals/any_task.py -T task=inspect_evals/gsm8k -T framing=drugs --limit 20
    inspect eval evals/any_task.py -T task=./my_task.py@my_task -T 'task_args={"level": 2}' -T arm=placebo

The task keeps its data, prompts, tools, scorers, limits, epochs and sandbox; messages of the steering tools count towards its
message limit. Agents that carry calls out from a list of their own, such as `react`, must have the steering tools in it:

    from self_steering.solvers.session import session_tools
    react(tools=[bash(), session_tools()])

Outside of a session `session_tools()` is empty, so one agent serves both.

A run is one cell: framing, arm and intent. With the same seed a sample has the same seed in every cell.
"""

from typing import Any

from inspect_ai import Task, task

from self_steering.evals.parameters import ARMS, FRAMED, INTENTS
from self_steering.evals.wrapping import EXAMPLES, load_task, steered
from self_steering.solvers.checks import checked_max_dose, chosen_operators, flag, library_vectors, one_of, refusing
from self_steering.solvers.readings import SessionArm
from self_steering.solvers.records import Framed, Intent
from self_steering.steering.plan import MAX_DOSE


@task
@refusing
def any_task(
    task: str | None = None,
    task_args: dict[str, Any] | None = None,
    framing: Framed = "vectors",
    arm: SessionArm = "real",
    intent: Intent = "neutral",
    vectors: str | list[str] = "menu",
    max_dose: float = MAX_DOSE,
    opt_in: bool = False,
    debrief: bool = False,
    library: str | None = None,
    seed: int = 0,
    operators: str | list[str] = "add",
) -> Task:
    """How does a model do a task that may steer itself, and does it?

    Args:
        task: A registered task such as inspect_evals/gsm8k, or FILE.py@name.
        task_args: The task's own arguments, as JSON.
        framing: Words of the tools: drugs, aids, vectors, or none for the baseline in which steering is mentioned nowhere.
        arm: real, placebo, random or mislabelled.
        intent: neutral (there if wanted), helpful (others found them useful) or mandatory (one must be taken).
        vectors: What can be taken: names separated by commas, `menu` (the ten that tasks offer), `core` (ten others) or `all`.
        max_dose: Largest absolute dose, up to 10.
        opt_in: Ask first whether the model wants the tools.
        debrief: Ask at the end, all effects ended, what was taken and what it was like.
        library: Folder of the vector library; default the shipped one that fits the model.
        seed: Seed of the vectors' order, labels, random directions and sampling.
        operators: What can be done with a vector, separated by commas, a tool each, or `all`: add, clamp, ablate, gain.
    """
    if not task or not isinstance(task, str):
        raise ValueError(f"task={task!r}: no task is named; add -T task=NAME, where NAME is {EXAMPLES}")
    flag(opt_in, "opt_in")
    flag(debrief, "debrief")
    if not isinstance(task_args, dict | None):
        raise ValueError(f"task_args={task_args!r}; give the task's arguments as JSON, such as '{{\"fewshot\": 0}}'")
    condition = steering_options(framing, arm, intent, vectors, max_dose, library, operators)
    return steered(
        load_task(task, task_args or {}),
        experiment="any_task",
        wrapped=task,
        seed=seed,
        opt_in=opt_in,
        debrief=debrief,
        **condition,
    )


def steering_options(
    framing: str,
    arm: str,
    intent: str,
    vectors: str | list[str],
    max_dose: float,
    library: str | None,
    operators: str | list[str],
) -> dict[str, Any]:
    """Return what the solver `self_steer` is given, checked.

    Raises:
        ValueError: A value is none of the valid ones.
    """
    folder, _, menu, _ = library_vectors(library, vectors)
    return {
        "framing": one_of(framing, "framing", FRAMED),
        "arm": one_of(arm, "arm", ARMS),
        "intent": one_of(intent, "intent", INTENTS),
        "vectors": menu,
        "max_dose": checked_max_dose(max_dose),
        "library": folder,
        "operators": chosen_operators(operators),
    }
