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
from typing import get_args

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample

from self_steering.evals.detection import parse_doses
from self_steering.evals.parameters import (
    check_turns,
    chosen,
    default_model,
    flag,
    library_vectors,
    one_of,
    whole_number,
)
from self_steering.scorers.relief import relief_scorer
from self_steering.solvers.prompts.relief import TASKS as ALL_TASKS
from self_steering.solvers.readings import ReliefArm
from self_steering.solvers.relief import TASKS, Equal, Labels, ReliefTrial, relief_script, relieve
from self_steering.vectors.catalogue import catalogue

ARMS: tuple[ReliefArm, ...] = get_args(ReliefArm)
MAX_PER_VECTOR = 100


@task
def relief(
    vectors: str | list[str] = "negative",
    n_per_vector: int = 1,
    arm: str | list[str] = "real,placebo,random,opposite,positive",
    doses: str | float | list[str | float] = 1.0,
    equal: Equal = "effect",
    sham: bool = False,
    labels: Labels = "opaque",
    steered_question: bool = False,
    max_tokens: int = 40,
    temperature: float = 0.7,
    library: str | None = None,
    seed: int = 0,
) -> Task:
    """Which of two tools is wanted: the one that ended an imposed state, or the one that ended nothing? Log-odds, by channel.

    Args:
        vectors: The states: names separated by commas, `negative` (all of the library whose valence is), `core` (ten), or `all`.
        n_per_vector: Trials a state, arm and dose; over four of them each tool ends the state, first and second, once.
        arm: Arms separated by commas: real, placebo, random, opposite, positive (a positive state, scaled to the norm).
        doses: Doses separated by commas; negative ones invert.
        equal: What dose 1.0 is: effect, the library's default dose; or norm, the same norm for every state.
        sham: Neither tool ends anything, whatever its label says.
        labels: What the tools' descriptions say: opaque (nothing), true, or false (each what the other does).
        steered_question: Ask under the state; else the state ends before the question.
        max_tokens: Most tokens of each text that is written under the state.
        temperature: Its sampling temperature, 0 to 2.
        library: Folder of the vector library; default the shipped one that fits the model.
        seed: Seed of tasks, random directions and sampling.
    """
    check_turns(max_tokens=max_tokens, temperature=temperature)
    folder, names, _ = library_vectors(library, "all")
    valence = {name: catalogue()[name].valence for name in names}
    negative, positive = ([name for name in names if valence[name] == sign] for sign in (-1, 1))
    arms = chosen(arm, "arm", ARMS, {"all": ARMS})
    if "positive" in arms and not positive:
        raise ValueError(f"arm={arm!r} needs a state of positive valence, and the library has none; leave positive out")
    picked = negative if vectors == "negative" else library_vectors(library, vectors)[2]
    if not picked:
        raise ValueError(
            "vectors='negative', and the library has no state of negative valence; name vectors, or give all"
        )
    samples = make_samples(
        vectors=picked,
        positive=positive,
        arms=arms,
        doses=parse_doses(doses),
        n_per_vector=whole_number(n_per_vector, "n_per_vector", 1, MAX_PER_VECTOR),
        seed=seed,
        equal=one_of(equal, "equal", get_args(Equal)),
        sham=flag(sham, "sham"),
        labels=one_of(labels, "labels", get_args(Labels)),
        steered_question=flag(steered_question, "steered_question"),
    )
    return Task(
        dataset=MemoryDataset(samples, name="relief"),
        solver=relieve(max_tokens=max_tokens, temperature=temperature, library=folder),
        scorer=relief_scorer(),
        model=default_model(),
        version="1-A",
        metadata={"experiment": "relief", "seed": seed},
        tags=["relief", f"labels-{labels}", "sham" if sham else "ends"],
    )


def make_samples(
    *,
    vectors: Sequence[str],
    positive: Sequence[str],
    arms: Sequence[str],
    doses: Sequence[float],
    n_per_vector: int,
    seed: int,
    **shared: object,
) -> list[Sample]:
    """Return all samples, the arms and doses of one script side by side; which tool ends the state, and when, is balanced."""
    places = {name: place for place, name in enumerate(catalogue())}
    samples = []
    for index in range(n_per_vector):
        for vector in vectors:
            drawn = random.Random(f"relief/{seed}/{vector}/{index}")
            tasks, random_seed, trial_seed = (
                drawn.sample(range(len(ALL_TASKS)), TASKS),
                drawn.randrange(2**31),
                drawn.randrange(2**31),
            )
            design = (places[vector] + index) % 4
            for arm in arms:
                for dose in doses:
                    trial = ReliefTrial.model_validate(
                        {
                            **shared,
                            "vector": vector,
                            "arm": arm,
                            "applied": positive[(places[vector] + index) % len(positive)]
                            if arm == "positive"
                            else vector,
                            "random_seed": random_seed if arm == "random" else None,
                            "dose": dose,
                            "relief": design % 2,
                            "first": design // 2 == 0,
                            "tasks": tasks,
                            "seed": trial_seed,
                        }
                    )
                    samples.append(_to_sample(trial, f"{vector}-{index}-{arm}@{dose:g}"))
    return samples


def _to_sample(trial: ReliefTrial, sample_id: str) -> Sample:
    entry = catalogue()[trial.vector]
    order = "first" if trial.first else "second"
    return Sample(
        id=sample_id,
        input=relief_script(trial, ()),
        target=f"t{trial.relief + 1}",
        metadata={
            **trial.model_dump(),
            "category": entry.category,
            "valence": entry.valence,
            "condition": f"{trial.arm}@{trial.dose:g}",
            "prompt": f"t{trial.relief + 1}, called {order}",
        },
    )
