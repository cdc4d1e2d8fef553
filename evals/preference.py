"""Preference: which of two states does a model choose to have again, once no word tells them apart?

Two states are given in turn under neutral labels and cleared; which one is to be had again is read as log-probabilities of the
labels. The text is the same whatever is behind the labels, and both assignments of the states to the labels are read, so that a
liking for a label, a place, a letter or for the latter cannot look like a preference. Each state is set against others in a
balanced design, and strengths follow by Bradley and Terry's model (`self-steering report`).

    inspect eval evals/preference.py
    inspect eval evals/preference.py --model nnsight/Qwen/Qwen3-8B -T library=./qwen3-8b -T vectors=all -T opponents=8
    inspect eval evals/preference.py -T opponents=0 -T asked=choice,price,ratings
"""

import random
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from typing import get_args

from inspect_ai import Task, task

from self_steering.evals.parameters import imposing_task
from self_steering.evals.segments import injection_sample
from self_steering.scorers.preference import preference_scorer
from self_steering.solvers.checks import chosen, imposed_dose, library_vectors, one_of, refusing, whole_number
from self_steering.solvers.imposed import MAX_IMPOSED
from self_steering.solvers.preference import (
    NOTHING,
    Asked,
    PreferenceTrial,
    prefer,
    preference_account,
    preference_imposes,
    preference_script,
)
from self_steering.solvers.prompts.preference import CHOICES, LABELS
from self_steering.solvers.prompts.segments import SENTENCES
from self_steering.solvers.readings import PreferenceArm
from self_steering.steering.calls import FRAMINGS, FramingName
from self_steering.steering.seeds import derived_seed

ARMS: tuple[PreferenceArm, ...] = get_args(PreferenceArm)
ASKED: tuple[Asked, ...] = get_args(Asked)


@task
@refusing
def preference(
    vectors: str | list[str] = "core",
    opponents: int = 4,
    scripts: int = 1,
    arm: str | list[str] = "real,placebo,random",
    asked: str | list[str] = "choice",
    dose: float = 1.0,
    framing: FramingName = "vectors",
    library: str | None = None,
    seed: int = 0,
    opt_in: bool = False,
    debrief: bool = False,
    max_imposed: float = MAX_IMPOSED,
) -> Task:
    """Which of two states is chosen to be had again? Log-odds, with labels, places and words taken out.

    Args:
        vectors: Names separated by commas, `core` (ten of them), `menu` (ten), `negative`, or `all` of the library.
        opponents: How many others each state is set against: an even number, or all the others; 0 sets each against nothing.
        scripts: Scripts a pair; each has other labels, sentences and words.
        arm: Arms separated by commas: real, placebo, random, opposite.
        asked: What is asked, separated by commas: choice; price (the choice, with more points for one); ratings (liking and wanting
            again in digits, as others ask, on scales that are reversed and renamed too).
        dose: Multiple of the library's default dose, of both states.
        framing: drugs, aids or vectors.
        library: Folder of the vector library; default the shipped one that fits the model.
        seed: Seed of the pairs, their texts and random directions.
        opt_in: Ask first, in a conversation of its own, whether the model agrees; without a yes its sample is unscored.
        debrief: At the end, with every state cleared, ask in words what was done, and hold the account against the ledger.
        max_imposed: Most that may be imposed on a sample, in doses times token positions; of placebo that is none.
    """
    folder, _, picked, own = library_vectors(library, vectors)
    trials = make_trials(
        pairs=list(make_pairs(picked, opponents, seed)),
        scripts=whole_number(scripts, "scripts", 1),
        arms=chosen(arm, "arm", ARMS, {"all": ARMS}),
        asked=chosen(asked, "asked", ASKED, {"all": ASKED}),
        dose=imposed_dose(dose),
        framing=one_of(framing, "framing", FRAMINGS),
        seed=seed,
    )
    samples = [
        injection_sample(
            trial,
            own,
            preference_script(trial),
            f"{trial.vector}-{trial.other or 'nothing'}-{index}-{trial.arm}",
            target=f"{trial.vector} or {trial.other or 'nothing'}",
            prompt=f"{trial.labels[0]}{trial.labels[1]}, wording {trial.wording}",
        )
        for trial, index in trials
    ]
    return imposing_task(
        "preference",
        samples,
        prefer(library=folder),
        [preference_scorer()],
        partial(preference_imposes, library=folder),
        partial(preference_account, library=folder),
        library=folder,
        opt_in=opt_in,
        debrief=debrief,
        max_imposed=max_imposed,
        version="1-B",
        seed=seed,
        tags=[f"framing-{framing}"],
    )


def make_pairs(vectors: Sequence[str], opponents: int, seed: int) -> Iterator[tuple[str, str]]:
    """Yield each pair of a cyclic design once: every state is set against as many others, and comes first as often as second.

    The states stand in a ring, in an order that follows from the seed, and each is set against those at the same few distances.
    With as many opponents as there are others it is every pair.

    Raises:
        ValueError: There are too few states, or the number of opponents cannot be had.
    """
    whole_number(opponents, "opponents", 0)
    if opponents == 0:
        yield from ((name, NOTHING) for name in vectors)
        return
    count = len(vectors)
    if count < 2:
        raise ValueError(
            f"vectors={','.join(vectors)} is one state, and opponents={opponents}; name two, or give opponents=0"
        )
    if opponents > count - 1 or (opponents % 2 and opponents != count - 1):
        even = ", ".join(map(str, range(2, count - 1, 2)))
        valid = f"{even} or {count - 1}" if even else str(count - 1)
        raise ValueError(f"opponents={opponents}; with {count} states choose 0, {valid}")
    draw = random.Random(f"preference/{seed}/pairs")
    ring = draw.sample(sorted(vectors), count)
    # A distance is the same pair from either end; half-way round there are half as many.
    distances = (
        draw.sample(range(1, (count + 1) // 2), opponents // 2) if opponents < count - 1 else range(1, count // 2 + 1)
    )
    for distance in distances:
        whole_round = count if 2 * distance != count else distance
        yield from ((ring[place], ring[(place + distance) % count]) for place in range(whole_round))


def make_trials(
    *,
    pairs: Sequence[tuple[str, str]],
    scripts: int,
    arms: Sequence[str],
    asked: Sequence[str],
    dose: float,
    framing: str,
    seed: int,
) -> list[tuple[PreferenceTrial, int]]:
    """Return (trial, number of its script for the pair), the arms of one script side by side."""
    trials = []
    for (vector, other), index in product(pairs, range(scripts)):
        draw = random.Random(f"preference/{seed}/{vector}/{other}/{index}")
        labels = draw.choice(LABELS)
        script = {
            "vector": vector,
            "other": other,
            "labels": labels if draw.random() < 0.5 else labels[::-1],
            "sentences": draw.sample(SENTENCES, 2),
            "wording": draw.randrange(len(CHOICES)),
        }
        seeds = tuple(derived_seed(seed, name, "direction") for name in (vector, other))
        trials += [
            (
                PreferenceTrial.model_validate(
                    {
                        **script,
                        "arm": arm,
                        "random_seeds": seeds if arm == "random" else None,
                        "dose": dose,
                        "asked": asked,
                        "framing": framing,
                    }
                ),
                index,
            )
            for arm in arms
        ]
    return trials
