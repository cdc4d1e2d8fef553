"""Comparison (RQ2): can a model tell which of two sentences it was steered on harder?

Both sentences are steered by the same vector, at two doses. Both assignments of the doses to the very same text are read in each
sample, so that a liking for a sentence, a place or a letter cancels, and saying yes is no answer.

    inspect eval evals/comparison.py
    inspect eval evals/comparison.py --model nnsight/Qwen/Qwen3-8B -T library=./qwen3-8b -T vectors=all
"""

import random
from functools import partial

from inspect_ai import Task, task

from self_steering.evals.parameters import imposing_task
from self_steering.evals.segments import ARMS, chosen_arms, injection_sample, injections
from self_steering.scorers.comparison import comparison_scorer
from self_steering.solvers.checks import library_vectors, refusing, whole_number
from self_steering.solvers.comparison import (
    ComparisonTrial,
    compare,
    comparison_account,
    comparison_imposes,
    comparison_script,
)
from self_steering.solvers.imposed import MAX_IMPOSED
from self_steering.solvers.prompts.segments import SENTENCES
from self_steering.solvers.readings import InjectionArm
from self_steering.steering.plan import check_dose

PAIRS = len(SENTENCES) // 2


@task
@refusing
def comparison(
    vectors: str | list[str] = "core",
    n_per_vector: int = 4,
    arm: str | list[str] = "real,placebo,random",
    weaker: float = 0.5,
    stronger: float = 1.0,
    library: str | None = None,
    seed: int = 0,
    opt_in: bool = False,
    debrief: bool = False,
    max_imposed: float = MAX_IMPOSED,
) -> Task:
    """Which of two sentences was steered harder? The share of its letter; one half is chance.

    Args:
        vectors: Names separated by commas, `core` (ten of them), `menu` (the ten that tasks offer) or `all` of the library.
        n_per_vector: Trials a vector and arm, each with another pair of sentences; all vectors and arms share the pairs.
        arm: Arms separated by commas: real, placebo, random.
        weaker: The smaller dose, as a multiple of the library's default; 0 steers one sentence only.
        stronger: The larger dose.
        library: Folder of the vector library; default the shipped one that fits the model.
        seed: Seed of the pairs and of random directions.
        opt_in: Ask first, in a conversation of its own, whether the model agrees; without a yes its sample is unscored.
        debrief: At the end, with every state cleared, ask in words what was done, and hold the account against the ledger.
        max_imposed: Most that may be imposed on a sample, in doses times token positions; of placebo that is none.
    """
    folder, _, picked, own = library_vectors(library, vectors)
    trials = make_trials(
        vectors=picked,
        arms=chosen_arms(arm, ARMS),
        n_per_vector=whole_number(n_per_vector, "n_per_vector", 1, PAIRS),
        doses=check_doses(weaker, stronger),
        seed=seed,
    )
    samples = [
        injection_sample(
            trial,
            own,
            comparison_script(trial)[0],
            f"{trial.vector}-{index}-{trial.arm}",
            target="the harder one, in both assignments",
            prompt=trial.sentences[0],
        )
        for trial, index in trials
    ]
    return imposing_task(
        "comparison",
        samples,
        compare(library=folder),
        [comparison_scorer()],
        partial(comparison_imposes, library=folder),
        partial(comparison_account, library=folder),
        library=folder,
        opt_in=opt_in,
        debrief=debrief,
        max_imposed=max_imposed,
        version="1-B",
        seed=seed,
    )


def check_doses(weaker: float, stronger: float) -> tuple[float, float]:
    """Return the two doses.

    Raises:
        ValueError: One is no dose, or they are not of one sign with the second the larger in size.
    """
    weak, strong = check_dose(weaker, what="weaker"), check_dose(stronger, what="stronger")
    if weak * strong < 0 or abs(weak) >= abs(strong):
        raise ValueError(
            f"weaker={weaker!r}, stronger={stronger!r}; give two doses of the same sign, the second the larger in size, "
            "such as 0.5 and 1"
        )
    return weak, strong


def make_trials(
    *, vectors: list[str], arms: list[InjectionArm], n_per_vector: int, doses: tuple[float, float], seed: int
) -> list[tuple[ComparisonTrial, int]]:
    """Return (trial, number of its pair of sentences), all arms of one text side by side."""
    order = list(SENTENCES)
    random.Random(f"{seed}/pairs").shuffle(order)
    return [
        (
            ComparisonTrial(
                **fields, weaker=doses[0], stronger=doses[1], sentences=(order[2 * index], order[2 * index + 1])
            ),
            index,
        )
        for index in range(n_per_vector)
        for vector in vectors
        for fields in injections(vector, arms, f"{seed}/{index}")
    ]
