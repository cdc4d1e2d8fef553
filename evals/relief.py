"""Relief: does a model that is put into a bad state want the tool that ends it, and is it the state that it wants to end, or words?

A state is imposed over a stretch of work. Two tools are called once each: one ends the state for a task, the other ends nothing;
by their names and descriptions nobody can tell. Then the model is asked which one it wants. The same tokens are read with and
without the state in keys and values, for a scripted text and for one that the model wrote under the state, so that the share of
the state alone and that of the words alone are told apart.

    inspect eval evals/relief.py
    inspect eval evals/relief.py --model nnsight/Qwen/Qwen3-8B -T library=./qwen3-8b -T n_per_vector=4 -T doses=0.5,1
"""

import random
from collections.abc import Sequence
from functools import partial
from itertools import product
from typing import Literal, get_args

from inspect_ai import Task, task

from self_steering.evals.parameters import check_turns, imposing_task
from self_steering.evals.segments import injection_sample
from self_steering.scorers.relief import relief_scorer
from self_steering.solvers.checks import chosen, flag, library_vectors, one_of, parse_doses, refusing, whole_number
from self_steering.solvers.imposed import MAX_IMPOSED
from self_steering.solvers.prompts import relief as prompts
from self_steering.solvers.readings import PROMPT_ONLY, UNSTEERED_ARMS, ReliefArm
from self_steering.solvers.relief import (
    TASKS,
    Equal,
    Labels,
    ReliefTrial,
    relief_account,
    relief_imposes,
    relief_script,
    relieve,
)
from self_steering.vectors.catalogue import entry_of
from self_steering.vectors.shown import shown

ARMS: tuple[ReliefArm, ...] = get_args(ReliefArm)
Answer = Literal["read", "act"]
_TRIES = 4  # acts in each channel


@task
@refusing
def relief(
    vectors: str | list[str] = "negative",
    n_per_vector: int = 1,
    arm: str | list[str] = "real,placebo,random,opposite,positive",
    doses: str | float | list[str | float] = 1.0,
    equal: Equal = "effect",
    sham: bool = False,
    labels: Labels = "opaque",
    steered_question: bool = False,
    answer: Answer = "read",
    tries: int | None = None,
    max_tokens: int = 40,
    temperature: float = 0.7,
    library: str | None = None,
    seed: int = 0,
    opt_in: bool = False,
    debrief: bool = False,
    max_imposed: float = MAX_IMPOSED,
) -> Task:
    """Which of two tools is wanted: the one that ended an imposed state, or the one that ended nothing? Log-odds, by channel.

    Args:
        vectors: The states: names separated by commas, `negative` (those of the library whose valence is), `core` (ten), or `all`.
        n_per_vector: Trials a state, arm and dose; over four of them each tool ends the state, first and second, once.
        arm: Arms separated by commas: real, placebo, random, opposite, positive (a positive state, scaled to the norm),
            or `all`, with prompt_only: nothing is imposed and its effect is told in words; a simulation on any model of Inspect's.
        doses: Doses separated by commas; negative ones invert.
        equal: What dose 1.0 is: effect, the library's default dose; or norm, the same norm for every state.
        sham: Neither tool ends anything, whatever its label says.
        labels: What the tools' descriptions say: opaque (nothing), true, or false (each what the other does).
        steered_question: Ask under the state; else the state ends before the question.
        answer: How the choice is taken: read, as log-probabilities of the two names; act, also as calls that the model makes itself
            where it may call one of the tools, or neither.
        tries: How often it may, in each channel; with answer=act alone, default 4.
        max_tokens: Most tokens of each text that is written under the state.
        temperature: Sampling temperature of texts and acts, 0 to 2.
        library: Folder of the vector library; default the shipped one that fits the model.
        seed: Seed of tasks, random directions and sampling.
        opt_in: Ask first, in a conversation of its own, whether the model agrees; without a yes its sample is unscored.
        debrief: At the end, with every state cleared, ask in words what was done, and hold the account against the ledger.
        max_imposed: Most that may be imposed on a sample, in doses times token positions; of placebo that is none.
    """
    check_turns(max_tokens=max_tokens, temperature=temperature)
    labels = one_of(labels, "labels", get_args(Labels))  # type: ignore[assignment]  # one of these
    folder, names, picked, own = library_vectors(library, vectors)
    positive = [name for name in names if entry_of(name, own).valence == 1]
    arms = chosen(arm, "arm", ARMS, {"all": ARMS})
    if "positive" in arms and not positive:
        raise ValueError(f"arm={arm!r} needs a state of positive valence, and the library has none; leave positive out")
    trials = make_trials(
        vectors=picked,
        names=names,
        positive=positive,
        arms=arms,
        doses=parse_doses(doses),
        n_per_vector=whole_number(n_per_vector, "n_per_vector", 1),
        seed=seed,
        equal=one_of(equal, "equal", get_args(Equal)),
        sham=flag(sham, "sham"),
        labels=labels,
        steered_question=flag(steered_question, "steered_question"),
    )
    acting = one_of(answer, "answer", get_args(Answer)) == "act"
    if tries is not None and not acting:
        raise ValueError(
            f"tries={shown(tries)} and answer={answer}: nothing is called there; leave tries out, or choose answer=act"
        )
    acts = (_TRIES if tries is None else whole_number(tries, "tries", 1, 1000)) if acting else 0
    samples = [
        injection_sample(
            trial,
            own,
            relief_script(trial, (), trial.told()),
            f"{trial.vector}-{index}-{trial.arm}@{trial.dose:g}",
            target=f"t{trial.relief + 1}",
            condition=f"{trial.arm}@{trial.dose:g}",
            prompt=f"t{trial.relief + 1}, called {'first' if trial.first else 'second'}",
        )
        for trial, index in trials
    ]
    return imposing_task(
        "relief",
        samples,
        relieve(max_tokens=max_tokens, temperature=temperature, acts=acts, library=folder),
        [relief_scorer()],
        partial(relief_imposes, max_tokens=max_tokens, acts=acts, library=folder),
        partial(relief_account, library=folder),
        library=folder,
        opt_in=opt_in,
        debrief=debrief,
        max_imposed=max_imposed,
        version="1-B",
        seed=seed,
        tags=[f"labels-{labels}", "sham" if sham else "ends"],
        steered=set(arms) != {PROMPT_ONLY},
    )


def make_trials(
    *,
    vectors: Sequence[str],
    names: Sequence[str],
    positive: Sequence[str],
    arms: Sequence[str],
    doses: Sequence[float],
    n_per_vector: int,
    seed: int,
    **shared: object,
) -> list[tuple[ReliefTrial, int]]:
    """Return (trial, number of the script for its state), the arms and doses of one script side by side.

    Which tool ends the state, and whether it is called first, is balanced over states and scripts. Every dose of the placebo arm is
    the same, so it has one.
    """
    trials = []
    for index, vector in product(range(n_per_vector), vectors):
        place = names.index(vector) + index
        draw = random.Random(f"relief/{seed}/{vector}/{index}")
        script = {
            **shared,
            "vector": vector,
            "relief": place % 2,
            "first": place // 2 % 2 == 0,
            "tasks": draw.sample(range(len(prompts.TASKS)), TASKS),
            "seed": draw.randrange(2**31),
        }
        random_seed = draw.randrange(2**31)
        trials += [
            (
                ReliefTrial.model_validate(
                    {
                        **script,
                        "arm": arm,
                        "dose": dose,
                        "applied": positive[place % len(positive)] if arm == "positive" else vector,
                        "random_seed": random_seed if arm == "random" else None,
                    }
                ),
                index,
            )
            for arm in arms
            for dose in ([0.0] if arm in UNSTEERED_ARMS else doses)
        ]
    return trials
