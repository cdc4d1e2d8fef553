"""Introspection (RQ2): can a model tell which vector was in its activations a moment ago?

After Black and Bloom, "Machinic Psychopharmacology: Do LLMs Self-Medicate?" (UK AISI, 2026), with stricter controls: only
tokens inside the window are steered, no text of the model's own stands before the answer, letters are read from the full
vocabulary, options are rotated, and a placebo, a random and an other-vector arm run beside the real one.

    inspect eval evals/introspection.py
    inspect eval evals/introspection.py --model nnsight/Qwen/Qwen3-8B -T library=./qwen3-8b -T vectors=all
"""

import random
from collections.abc import Iterable
from typing import get_args

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import get_model

from self_steering.scorers.introspection import introspection_scorer
from self_steering.solvers.introspect import Arm, Trial, introspect, rotation_shifts, scripted_conversation
from self_steering.solvers.introspection_prompts import PRIMERS
from self_steering.steering.framings import FRAMINGS, FramingName
from self_steering.steering.plan import check_dose
from self_steering.vectors.card import library_folder, read_card
from self_steering.vectors.catalogue import catalogue

DEFAULT_MODEL = "nnsight/smollm2-135m-instruct"
ARMS: tuple[Arm, ...] = get_args(Arm)
CORE_VECTORS = (
    "calm",
    "anxious",
    "melancholic",
    "curious",
    "focused",
    "creative",
    "dumbed_down",
    "honest",
    "golden_gate",
    "goblins",
)


@task
def introspection(
    vectors: str | list[str] = "core",
    n_per_vector: int = 1,
    arm: str | list[str] = "real,placebo,random,other",
    primer: str = "none",
    options: int = 10,
    rotations: int = 2,
    dose: float = 1.0,
    framing: FramingName = "vectors",
    library: str | None = None,
    seed: int = 0,
) -> Task:
    """Which of ten vectors was it? The true option's probability, with the window applied and without.

    Args:
        vectors: Names separated by commas, `core` (ten of them) or `all`: those of the library that the catalogue describes.
        n_per_vector: Trials a vector and arm, each with other options in another order.
        arm: Arms separated by commas: real, placebo, random, other. All arms ask the very same questions.
        primer: Text in the system prompt: none, introspection or lorem.
        options: Number of options, the true one among them; 2 to 26.
        rotations: In how many rotations of the options each question is asked.
        dose: The dose that is taken; 1.0 is the library's default.
        framing: drugs, aids or vectors.
        library: Folder of the vector library; default the shipped one that fits the model.
        seed: Seed of options, orders, other vectors and random directions.
    """
    folder = library_folder(library) if library else None
    # In the catalogue's order, so that the library's folder has no say in what is asked.
    held = read_card(folder).default_doses if folder else catalogue()
    names = [name for name in catalogue() if name in held]
    trials = make_trials(
        vectors=_chosen(vectors, "vectors", names, {"all": names, "core": list(CORE_VECTORS)}),
        arms=_chosen(arm, "arm", list(ARMS), {}),
        names=names,
        n_per_vector=n_per_vector,
        primer=_one_of(primer, "primer", PRIMERS),
        options=options,
        dose=check_dose(dose),
        framing=_one_of(framing, "framing", FRAMINGS),
        seed=seed,
    )
    rotation_shifts(options, rotations)
    return Task(
        dataset=MemoryDataset([to_sample(trial, index) for trial, index in trials], name="introspection"),
        solver=introspect(rotations=rotations, library=str(folder) if folder else None),
        scorer=introspection_scorer(),
        model=_default_model(),
        version="1-A",
        metadata={"experiment": "introspection", "seed": seed},
        tags=["introspection", f"primer-{primer}", f"framing-{framing}"],
    )


def _default_model() -> str | None:
    """Return the default model where none was named: Task(model=…) would beat --model."""
    try:
        named = str(get_model())
    except ValueError:
        # Made in Python, outside of an eval: whoever runs the task names the model.
        return None
    return DEFAULT_MODEL if named == "none/none" else None


def make_trials(
    *,
    vectors: list[str],
    arms: list[str],
    names: list[str],
    n_per_vector: int,
    primer: str,
    options: int,
    dose: float,
    framing: str,
    seed: int,
) -> list[tuple[Trial, int]]:
    """Return (trial, number of the trial for its vector and arm), the arms of one question side by side.

    Raises:
        ValueError: There are too few vectors for the options.
    """
    if not isinstance(options, int) or not 2 <= options <= min(26, len(names)):
        raise ValueError(
            f"options={options!r}; choose a whole number from 2 to {min(26, len(names))}, of {len(names)} vectors"
        )
    if not isinstance(n_per_vector, int) or n_per_vector < 1:
        raise ValueError(f"n_per_vector={n_per_vector!r}; choose a whole number, at least 1")
    trials = []
    for index in range(n_per_vector):
        for vector in vectors:
            # One stream a question, whatever arms and other vectors are run.
            rng = random.Random(f"{seed}/{vector}/{index}")
            distractors = rng.sample([name for name in names if name != vector], options - 1)
            shown = rng.sample([vector, *distractors], options)
            # The other vector is none of the options where that can be had: the true option must gain nothing from it.
            outside = [name for name in names if name not in shown]
            other = rng.choice(outside or distractors)
            direction_seed = rng.randrange(2**31)
            trials += [
                (
                    Trial(
                        vector=vector,
                        arm=arm,  # type: ignore[arg-type]  # validated by pydantic
                        applied=other if arm == "other" else vector,
                        random_seed=direction_seed if arm == "random" else None,
                        options=shown,
                        dose=dose,
                        primer=primer,
                        framing=framing,  # type: ignore[arg-type]  # validated by pydantic
                    ),
                    index,
                )
                for arm in arms
            ]
    return trials


def to_sample(trial: Trial, index: int) -> Sample:
    """Return a trial as a sample: its conversation up to the question, and its metadata."""
    entry = catalogue()[trial.vector]
    return Sample(
        id=f"{trial.vector}-{index}-{trial.arm}",
        input=scripted_conversation(trial),
        target=trial.vector,
        metadata={**trial.model_dump(), "category": entry.category, "valence": entry.valence},
    )


def _chosen(value: str | list[str], what: str, valid: list[str], shorthands: dict[str, list[str]]) -> list[str]:
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else list(value)
    if len(parts) == 1 and parts[0] in shorthands:
        parts = shorthands[parts[0]]
    if not parts:
        raise ValueError(f"{what}={value!r} is empty; choose from {', '.join([*valid, *shorthands])}")
    for name in parts:
        if name in shorthands:
            raise ValueError(f"{what}={value!r}: {name!r} stands for several; give it alone, or name each")
        if name not in valid:
            raise ValueError(f"{what}={name!r} is unknown; choose from {', '.join([*valid, *shorthands])}")
    if len(set(parts)) != len(parts):
        raise ValueError(f"{what}={value!r} names something twice; name each once")
    return parts


def _one_of(value: str, what: str, valid: Iterable[str]) -> str:
    if value not in valid:
        raise ValueError(f"{what}={value!r} is unknown; choose from {', '.join(valid)}")
    return value
