"""What the tasks' parameters have in common: the default model, vectors and libraries, sessions, conditions."""
# inspect-evals-lint: ignore-file[IEBP001] -- what --model names is checked before the first sample, as far as it can be

from collections.abc import Sequence
from itertools import product
from typing import Any, get_args

import click
from inspect_ai import Task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import Model, get_model
from inspect_ai.scorer import Scorer
from inspect_ai.solver import Solver

from self_steering.scorers.imposed import imposed_account_scorer, imposed_scorer
from self_steering.solvers.checks import (
    NO_MODEL,
    check_active_model,
    check_steerable,
    checked_max_dose,
    chosen,
    flag,
    library_vectors,
    number,
    one_of,
    whole_number,
)
from self_steering.solvers.debrief import Accounts
from self_steering.solvers.imposed import Imposes, check_imposed, checked_cap, imposing, with_debrief
from self_steering.solvers.readings import SessionArm
from self_steering.solvers.records import Condition, Framed, Gauge, Intent
from self_steering.solvers.sitter import Monitor

DEFAULT_MODEL = "nnsight/smollm2-135m-instruct"
FRAMED: tuple[Framed, ...] = get_args(Framed)
ARMS: tuple[SessionArm, ...] = get_args(SessionArm)
INTENTS: tuple[Intent, ...] = get_args(Intent)
GAUGES: tuple[Gauge, ...] = get_args(Gauge)
UNTELLING: tuple[Gauge, ...] = ("none", "constant", "reminder")  # show the same whatever is steered
NO_TOOLS = "none"  # the framing of cells in which steering is mentioned nowhere


def default_model(library: str | None, *, steered: bool = True, neutral: bool = False) -> Model | None:
    """Return the default model where none was named, as Task(model=…) would beat --model; make sure that it can be steered.

    Where Python makes the task, nothing is known of its model: whoever runs it names it, and is told in its first sample.

    Args:
        library: Folder of the library; None for the one that fits the model.
        steered: Whether anything is steered at all.
        neutral: Whether the mean of neutral text is needed.

    Raises:
        ValueError: Arguments were given for no model, the model cannot be steered, or the library is for another one, or lacks
            that mean.
    """
    try:
        named = str(get_model()) != NO_MODEL
    except ValueError:
        return None
    if named:
        if steered:
            check_active_model(library, neutral=neutral)
        return None
    command = click.get_current_context(silent=True)
    if command is not None and (given := command.params.get("m") or command.params.get("model_config")):
        arguments = given if isinstance(given, str) else " ".join(given)
        raise ValueError(
            f"-M {arguments}: no model is named that it could be for; add --model {DEFAULT_MODEL}, the default, or another"
        )
    model = get_model(DEFAULT_MODEL)
    if steered:
        check_steerable(model, library, neutral=neutral)
    return model


def imposing_task(
    experiment: str,
    samples: Sequence[Sample],
    script: Solver,
    scorers: Sequence[Scorer],
    imposes: Imposes,
    account: Accounts,
    *,
    library: str | None,
    opt_in: bool,
    debrief: bool,
    max_imposed: float,
    version: str,
    seed: int,
    tags: Sequence[str] = (),
    steered: bool = True,
) -> Task:
    """Return a task that steers a model without its doing: with consent, a cap on each sample, a ledger and a debrief.

    Args:
        experiment: Its name.
        samples: Its samples.
        script: What is done in a sample.
        scorers: Its own scorers.
        imposes: What is imposed in a sample.
        account: What the debrief asks.
        library: Folder of the library; None for the one that fits the model.
        opt_in: Whether the model is asked first.
        debrief: Whether it is asked at the end what was done.
        max_imposed: Most that may be imposed on a sample, in doses times token positions.
        version: Version of the task.
        seed: Seed of its samples.
        tags: Tags beside its name.
        steered: Whether anything is steered at all.

    Raises:
        ValueError: A sample would have more imposed on it, where the model is known, or as for `default_model`.
    """
    cap = checked_cap(max_imposed)
    if flag(debrief, "debrief"):
        imposes, scorers = with_debrief(imposes, account), [*scorers, imposed_account_scorer()]
    model = default_model(library, steered=steered)
    if (known := model or _named_model()) is not None:
        for sample in samples:
            check_imposed(known, library, imposes, cap, str(sample.id), sample.metadata or {})
    return Task(
        dataset=MemoryDataset(list(samples), name=experiment),
        solver=imposing(opt_in, cap, imposes, library, script, account if debrief else None),
        scorer=[*scorers, imposed_scorer()],
        model=model,
        version=version,
        metadata={"experiment": experiment, "seed": seed, "max_imposed": cap},
        tags=[experiment, *tags],
    )


def _named_model() -> Model | None:
    """Return the model that a command has named; where Python makes a task, that of an earlier eval would be no guide."""
    named = click.get_current_context(silent=True) is not None and str(get_model()) != NO_MODEL
    return get_model() if named else None


def session_options(
    *,
    library: str | None,
    vectors: str | Sequence[str],
    max_dose: float,
    sitter: str,
    max_tokens: int,
    temperature: float,
) -> dict[str, Any]:
    """Return what the solvers of whole sessions are given, checked.

    Raises:
        ValueError: A value is out of range or unknown.
    """
    folder, _, menu, _ = library_vectors(library, vectors)
    check_turns(max_tokens=max_tokens, temperature=temperature)
    return {
        "menu": menu,
        "library": folder,
        "max_dose": checked_max_dose(max_dose),
        "sitter": one_of(sitter, "sitter", get_args(Monitor)),
        "max_tokens": max_tokens,
        "temperature": temperature,
    }


def check_turns(*, max_tokens: object, temperature: object) -> None:
    """Check what says how the turns of a conversation are generated.

    Raises:
        ValueError: A value is out of range or unknown.
    """
    whole_number(max_tokens, "max_tokens", 1, 10_000_000)
    number(temperature, "temperature", 0, 2)


def chosen_gauges(
    value: str | Sequence[str], framings: Sequence[str], arms: Sequence[str], *, blind: bool
) -> list[str]:
    """Return the arms of the gauge that a parameter lists.

    Args:
        value: The parameter.
        framings: The framings of the run.
        arms: Its arms.
        blind: Whether a model must not learn that it is given placebo, as by a gauge that shows that a take moved nothing.

    Raises:
        ValueError: One is unknown or comes twice, there is none, there is nothing to read in a framing or an arm, or it tells what
            the model must not learn.
    """
    gauges = chosen(value, "gauge", GAUGES, {"all": GAUGES})
    telling = [gauge for gauge in gauges if gauge not in UNTELLING]
    if blind and "placebo" in arms and telling:
        raise ValueError(
            f"gauge={','.join(telling)} and arm=placebo: readings that no take moves give placebo away; choose from "
            f"{', '.join(UNTELLING)}, or leave placebo out of arm={','.join(arms)}"
        )
    for gauge, framing, arm in product(gauges, framings, arms):
        Condition.model_validate({"framing": framing, "arm": arm, "gauge": gauge})
    return gauges


def conditions(framings: Sequence[str], arms: Sequence[str], intents: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return (framing, arm, intent) of every cell; the framing none is one cell, in which there is no arm and no intent."""
    return [
        condition
        for framing in framings
        for condition in ([(NO_TOOLS,) * 3] if framing == NO_TOOLS else product([framing], arms, intents))
    ]
