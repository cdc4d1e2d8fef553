"""Which questions are asked: a balanced, seeded design.

The vectors are put on a ring in a seeded order, another one for each repetition. A vector's distractors are those that
stand at certain distances from it, the same distances for all: so every vector is a distractor equally often. Where the true
option stands, which vector is the other one and which wording is used follow from the place on the ring as well.
"""

import random
from collections.abc import Sequence

from self_steering.evals.parameters import whole_number
from self_steering.solvers.introspect import Trial
from self_steering.solvers.introspection_prompts import NONE_OPTION, OPAQUE_LABEL, WORDINGS

MAX_OPTIONS = 26


def make_trials(
    *,
    vectors: Sequence[str],
    arms: Sequence[str],
    names: Sequence[str],
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
