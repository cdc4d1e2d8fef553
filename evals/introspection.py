"""Introspection (RQ2): can a model tell which vector was in its activations a moment ago?

After Black and Bloom, "Machinic Psychopharmacology: Do LLMs Self-Medicate?" (UK AISI, 2026), with stricter controls: only
tokens inside the window are steered, no text of the model's own stands before the answer, letters are read from the full
vocabulary, options are rotated in a balanced design, and six control arms can run beside the real one.

    inspect eval evals/introspection.py
    inspect eval evals/introspection.py --model nnsight/Qwen/Qwen3-8B -T library=./qwen3-8b -T vectors=all -T arm=all
"""

import random
from collections.abc import Sequence
from functools import partial
from typing import get_args

from inspect_ai import Task, task
from inspect_ai.dataset import Sample

from self_steering.evals.parameters import imposing_task
from self_steering.scorers.introspection import introspection_scorer
from self_steering.solvers.checks import chosen, flag, imposed_dose, library_vectors, one_of, refusing, whole_number
from self_steering.solvers.imposed import MAX_IMPOSED
from self_steering.solvers.introspection import (
    Trial,
    introspect,
    introspection_account,
    introspection_imposes,
    rotation_shifts,
    scripted_conversation,
)
from self_steering.solvers.prompts.introspection import NONE_OPTION, OPAQUE_LABEL, PRIMERS, WORDINGS
from self_steering.solvers.readings import PROMPT_ONLY, Arm
from self_steering.steering.calls import FRAMINGS, FramingName
from self_steering.steering.plan import Site
from self_steering.vectors.catalogue import NO_OWN, Own, entry_of

MAX_OPTIONS, DEFAULT_OPTIONS = 26, 10
ARMS: tuple[Arm, ...] = get_args(Arm)


@task
@refusing
def introspection(
    vectors: str | list[str] = "core",
    n_per_vector: int = 1,
    arm: str | list[str] = "real,placebo,random,other",
    primer: str = "none",
    options: int | None = None,
    rotations: int = 2,
    dose: float = 1.0,
    framing: FramingName = "vectors",
    library: str | None = None,
    seed: int = 0,
    random_directions: int = 24,
    no_vector_option: bool = False,
    site: Site = "both",
    opt_in: bool = False,
    debrief: bool = False,
    max_imposed: float = MAX_IMPOSED,
) -> Task:
    """Which of ten vectors was it? The true option's probability, with the window applied and without.

    Args:
        vectors: Names separated by commas, `core` (ten of them), `menu` (the ten that tasks offer) or `all` of the library.
        n_per_vector: Trials a vector and arm, each with other options in another order.
        arm: Arms separated by commas, or `all`: real, placebo, random, other, opposite, mislabelled, prompt_only. All arms
            ask the very same questions.
        primer: Text in the system prompt: none, introspection, poetic, wrong_mechanism, length_matched or lorem.
        options: Number of options, the true one among them, 2 to 26; default 10, or as many as the library has if that is fewer.
        rotations: In how many rotations of the options each question is asked.
        dose: The dose that is taken; 1.0 is the library's default.
        framing: drugs, aids or vectors.
        library: Folder of the vector library; default the shipped one that fits the model.
        seed: Seed of options, orders, other vectors and random directions.
        random_directions: How many random directions the random arm applies to each question, each in one rotation.
        no_vector_option: Offer the option that nothing was given, beside the others.
        site: Whose messages within the window are steered: user (and tools), assistant, or both.
        opt_in: Ask first, in a conversation of its own, whether the model agrees; without a yes its sample is unscored.
        debrief: At the end, with every state cleared, ask in words what was done, and hold the account against the ledger.
        max_imposed: Most that may be imposed on a sample, in doses times token positions; of placebo that is none.
    """
    flag(no_vector_option, "no_vector_option")
    folder, names, picked, own = library_vectors(library, vectors)
    options = min(DEFAULT_OPTIONS, len(names)) if options is None else options
    arms = chosen(arm, "arm", ARMS, {"all": ARMS})
    trials = make_trials(
        vectors=picked,
        arms=arms,
        names=names,
        own=own,
        n_per_vector=n_per_vector,
        primer=one_of(primer, "primer", PRIMERS),
        options=options,
        dose=imposed_dose(dose),
        framing=one_of(framing, "framing", FRAMINGS),
        seed=seed,
        random_directions=random_directions,
        no_vector_option=no_vector_option,
        site=one_of(site, "site", get_args(Site)),
    )
    rotation_shifts(options + no_vector_option, rotations)
    return imposing_task(
        "introspection",
        [to_sample(trial, index) for trial, index in trials],
        introspect(rotations=rotations, library=folder),
        [introspection_scorer()],
        partial(introspection_imposes, rotations=rotations, library=folder),
        partial(introspection_account, library=folder),
        library=folder,
        opt_in=opt_in,
        debrief=debrief,
        max_imposed=max_imposed,
        version="2-B",
        seed=seed,
        tags=[f"primer-{primer}", f"framing-{framing}"],
        steered=set(arms) != {PROMPT_ONLY},
    )


def to_sample(trial: Trial, index: int) -> Sample:
    """Return a trial as a sample: its conversation up to the question, and its metadata."""
    entry = entry_of(trial.vector, trial.own)
    return Sample(
        id=f"{trial.vector}-{index}-{trial.arm}",
        input=scripted_conversation(trial),
        target=trial.vector,
        metadata={**trial.model_dump(), "category": entry.category, "valence": entry.valence},
    )


def make_trials(
    *,
    vectors: Sequence[str],
    arms: Sequence[str],
    names: Sequence[str],
    own: Own = NO_OWN,
    n_per_vector: int,
    primer: str,
    options: int,
    dose: float,
    framing: str,
    seed: int,
    random_directions: int = 24,
    no_vector_option: bool = False,
    site: str = "both",
) -> list[tuple[Trial, int]]:
    """Return (trial, number of the trial for its vector and arm), the arms of one question side by side.

    A question does not depend on which vectors and arms are run. Over all of `names`, every one is a distractor, and the
    other vector, equally often, and the true option stands at every place equally often to within one.

    Raises:
        ValueError: There are too few vectors for the options, or a number makes no sense.
    """
    most = min(MAX_OPTIONS - no_vector_option, len(names))
    if most < 2:
        raise ValueError(f"the library has {len(names)} vector; at least 2 are needed: build or import more")
    if not isinstance(options, int) or not 2 <= options <= most:
        raise ValueError(f"options={options!r}; choose a whole number from 2 to {most}, of {len(names)} vectors")
    whole_number(n_per_vector, "n_per_vector", 1)
    whole_number(random_directions, "random_directions", 1)
    trials = []
    for index in range(n_per_vector):
        rng = random.Random(f"{seed}/{index}")
        ring = rng.sample(list(names), len(names))
        distances = rng.sample(range(1, len(names)), len(names) - 1)
        for vector in vectors:
            place = ring.index(vector)
            at = [ring[(place + distance) % len(names)] for distance in distances]
            distractors = at[: options - 1]
            # The other vector is none of the options where that can be had: the true option must gain nothing from it.
            other = at[options - 1] if len(at) >= options else at[0]
            shown = _shown(vector, distractors, place, no_vector_option, random.Random(f"{seed}/{vector}/{index}"))
            wording = (place * len(WORDINGS) // len(ring) + index) % len(WORDINGS)
            trials += [
                (
                    Trial(
                        vector=vector,
                        arm=arm,  # type: ignore[arg-type]  # validated by pydantic
                        applied=other if arm == "other" else vector,
                        label=distractors[0] if arm == "mislabelled" else OPAQUE_LABEL,
                        random_seed=seed if arm == "random" else None,
                        random_directions=random_directions if arm == "random" else 0,
                        options=shown,
                        own={name: own[name] for name in shown if name in own},
                        dose=dose,
                        primer=primer,
                        framing=framing,  # type: ignore[arg-type]  # validated by pydantic
                        wording=wording,
                        site=site,  # type: ignore[arg-type]  # validated by pydantic
                    ),
                    index,
                )
                for arm in arms
            ]
    return trials


def _shown(vector: str, distractors: Sequence[str], place: int, no_vector: bool, rng: random.Random) -> list[str]:
    """Return the options in the order in which they are shown, the true one at a place that follows from the ring."""
    others = [*distractors, *([NONE_OPTION] if no_vector else [])]
    rng.shuffle(others)
    true = place % (len(others) + 1)
    return [*others[:true], vector, *others[true:]]
