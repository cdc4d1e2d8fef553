"""What the experiments that steer stretches of a conversation share: which arms, which random direction, their samples."""

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar, get_args

from inspect_ai.dataset import Sample
from inspect_ai.model import ChatMessage

from self_steering.solvers.checks import chosen
from self_steering.solvers.preference import PreferenceTrial
from self_steering.solvers.readings import DetectionArm, InjectionArm
from self_steering.solvers.relief import ReliefTrial
from self_steering.solvers.segments import Injection
from self_steering.vectors.catalogue import Own, entry_of

ARMS: tuple[InjectionArm, ...] = get_args(InjectionArm)
ArmName = TypeVar("ArmName", InjectionArm, DetectionArm)


def chosen_arms(arm: str | Sequence[str], valid: Sequence[ArmName]) -> list[ArmName]:
    """Return the arms that a parameter lists, in the order of `valid`.

    Raises:
        ValueError: An arm is unknown or comes twice.
    """
    names = chosen(arm, "arm", valid, {})
    return [arm_ for arm_ in valid if arm_ in names]


def injections(vector: str, arms: Iterable[DetectionArm], seed: str) -> Iterator[dict[str, Any]]:
    """Yield the fields of one `Injection` an arm; the random direction follows from vector and seed alone."""
    direction_seed = random.Random(f"{seed}/{vector}/direction").randrange(2**31)
    for arm in arms:
        yield {"vector": vector, "arm": arm, "random_seed": direction_seed if arm == "random" else None}


def injection_sample(
    trial: Injection | PreferenceTrial | ReliefTrial,
    own: Own,
    script: list[ChatMessage],
    sample_id: str,
    target: str,
    **metadata: str,
) -> Sample:
    """Return a trial as a sample: its conversation up to the question, and its metadata."""
    entry = entry_of(trial.vector, own)
    return Sample(
        id=sample_id,
        input=script,
        target=target,
        metadata={
            **trial.model_dump(),
            "own": {trial.vector: entry.model_dump()} if trial.vector in own else {},
            "category": entry.category,
            "valence": entry.valence,
            **metadata,
        },
    )
