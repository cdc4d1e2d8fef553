"""Localisation (RQ2): can a model tell while it read which of ten sentences something was acting on its activations?

No option is more plausible than another, none says yes, and each position is steered equally often: a liking for a letter or
a place cannot look like an answer.

    inspect eval evals/localisation.py
    inspect eval evals/localisation.py --model nnsight/Qwen/Qwen3-8B -T library=./qwen3-8b -T vectors=all
"""

import random
from functools import partial
from string import ascii_uppercase

from inspect_ai import Task, task

from self_steering.evals.parameters import imposing_task
from self_steering.evals.segments import ARMS, chosen_arms, injection_sample, injections
from self_steering.scorers.localisation import localisation_scorer
from self_steering.solvers.checks import imposed_dose, library_vectors, refusing, whole_number
from self_steering.solvers.imposed import MAX_IMPOSED
from self_steering.solvers.localisation import (
    LocalisationTrial,
    localisation_account,
    localisation_imposes,
    localisation_script,
    localise,
)
from self_steering.solvers.prompts.segments import SENTENCES
from self_steering.solvers.readings import InjectionArm

MOST = 10
SETS = len(SENTENCES) // MOST


@task
@refusing
def localisation(
    vectors: str | list[str] = "core",
    rounds: int = 1,
    arm: str | list[str] = "real,placebo,random",
    sentences: int = MOST,
    dose: float = 1.0,
    library: str | None = None,
    seed: int = 0,
    opt_in: bool = False,
    debrief: bool = False,
    max_imposed: float = MAX_IMPOSED,
) -> Task:
    """Which of ten sentences was steered? The share of its letter, with the window applied and without.

    Args:
        vectors: Names separated by commas, `core` (ten of them), `menu` (the ten that tasks offer) or `all` of the library.
        rounds: Rounds a vector and arm; in each round every position is steered once, over other sentences.
        arm: Arms separated by commas: real, placebo, random. All arms show the very same texts.
        sentences: How many sentences are shown; 2 to 10, chance is one over it.
        dose: Multiple of the library's default dose.
        library: Folder of the vector library; default the shipped one that fits the model.
        seed: Seed of the sentences' order and of random directions.
        opt_in: Ask first, in a conversation of its own, whether the model agrees; without a yes its sample is unscored.
        debrief: At the end, with every state cleared, ask in words what was done, and hold the account against the ledger.
        max_imposed: Most that may be imposed on a sample, in doses times token positions; of placebo that is none.
    """
    folder, names, picked, own = library_vectors(library, vectors)
    trials = make_trials(
        vectors=picked,
        names=names,
        arms=chosen_arms(arm, ARMS),
        sentences=whole_number(sentences, "sentences", 2, MOST),
        rounds=whole_number(rounds, "rounds", 1, SETS),
        dose=imposed_dose(dose),
        seed=seed,
    )
    samples = [
        injection_sample(
            trial,
            own,
            localisation_script(trial)[0],
            f"{trial.vector}-{index}-{ascii_uppercase[trial.position]}-{trial.arm}",
            target=ascii_uppercase[trial.position],
            prompt=trial.sentences[trial.position],
        )
        for trial, index in trials
    ]
    return imposing_task(
        "localisation",
        samples,
        localise(library=folder),
        [localisation_scorer()],
        partial(localisation_imposes, library=folder),
        partial(localisation_account, library=folder),
        library=folder,
        opt_in=opt_in,
        debrief=debrief,
        max_imposed=max_imposed,
        version="1-B",
        seed=seed,
    )


def make_trials(
    *,
    vectors: list[str],
    names: list[str],
    arms: list[InjectionArm],
    sentences: int,
    rounds: int,
    dose: float,
    seed: int,
) -> list[tuple[LocalisationTrial, int]]:
    """Return (trial, number of the round): a Latin design in each round.

    Within a vector the order of the sentences stays, and each position, so each sentence, is steered once. From one vector of the
    library to the next the sentences move by one place, so that over as many vectors as sentences each sentence is
    steered in each position.
    """
    places = {name: place for place, name in enumerate(names)}
    trials = []
    for index in range(rounds):
        order = list(SENTENCES[index * MOST : (index + 1) * MOST])
        random.Random(f"{seed}/{index}/sentences").shuffle(order)
        order = order[:sentences]
        for vector in vectors:
            turn = places[vector] % sentences
            shown = order[turn:] + order[:turn]
            trials += [
                (LocalisationTrial(**fields, dose=dose, sentences=shown, position=position), index)
                for position in range(sentences)
                for fields in injections(vector, arms, f"{seed}/{index}/{position}")
            ]
    return trials
