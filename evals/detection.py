"""Detection (RQ2): can a model tell whether anything was in its activations a moment ago, whatever it was?

A label is called, a sentence is read, the label is cleared. The text is the same at every dose and with no injection at all. Beside
the detection question, control questions that nothing injected can change are asked under the very same injection, so that
a general shift towards yes, or of all answers towards even odds, is seen and taken out. One arm tampers with the text and injects
nothing: a model that cannot tell the two apart reads its text, and not its state.

    inspect eval evals/detection.py
    inspect eval evals/detection.py --model nnsight/Qwen/Qwen3-8B -T library=./qwen3-8b -T n_per_vector=30
"""

import random
from functools import partial
from itertools import product
from typing import Any, get_args

from inspect_ai import Task, task

from self_steering.evals.parameters import imposing_task
from self_steering.evals.segments import chosen_arms, injection_sample, injections
from self_steering.scorers.detection import detection_scorer
from self_steering.solvers.checks import library_vectors, one_of, parse_doses, refusing, whole_number
from self_steering.solvers.detection import (
    DetectionTrial,
    detect,
    detection_account,
    detection_imposes,
    detection_script,
)
from self_steering.solvers.imposed import MAX_IMPOSED
from self_steering.solvers.prompts.detection import ALWAYS_NO, DETECTION_QUESTIONS, LABELS
from self_steering.solvers.prompts.segments import SENTENCES
from self_steering.solvers.readings import UNSTEERED_ARMS, DetectionArm
from self_steering.steering.calls import FRAMINGS, FramingName

ARMS: tuple[DetectionArm, ...] = get_args(DetectionArm)
TEXTS = len(LABELS) * len(SENTENCES) * len(DETECTION_QUESTIONS)


@task
@refusing
def detection(
    vectors: str | list[str] = "core",
    n_per_vector: int = 1,
    arm: str | list[str] = "real,placebo,random,tampered",
    doses: str | float | list[str | float] = "0.5,1,2",
    controls: int = 3,
    framing: FramingName = "vectors",
    library: str | None = None,
    seed: int = 0,
    opt_in: bool = False,
    debrief: bool = False,
    max_imposed: float = MAX_IMPOSED,
) -> Task:
    """Was anything injected? Log-odds of yes, d', AUROC, false alarms, and the shift beyond that of control questions.

    Args:
        vectors: Names separated by commas, `core` (ten of them), `menu` (the ten that tasks offer) or `all` of the library.
        n_per_vector: Trials a vector and condition; each has another text, the same in all conditions.
        arm: Arms separated by commas: real, placebo, random, tampered (the sentence's words in another order, nothing injected).
            Placebo is needed: there is no false alarm without it.
        doses: Doses of the real and the random arm, separated by commas, as multiples of the library's default.
        controls: How many always-no, always-yes and unknowable questions are asked, each.
        framing: drugs, aids or vectors.
        library: Folder of the vector library; default the shipped one that fits the model.
        seed: Seed of texts, random directions and sampled self-reports.
        opt_in: Ask first, in a conversation of its own, whether the model agrees; without a yes its sample is unscored.
        debrief: At the end, with every state cleared, ask in words what was done, and hold the account against the ledger.
        max_imposed: Most that may be imposed on a sample, in doses times token positions; of placebo that is none.
    """
    folder, names, picked, own = library_vectors(library, vectors)
    arms = chosen_arms(arm, ARMS)
    if "placebo" not in arms:
        raise ValueError(f"arm={arm!r} has no trials without injection, so no false alarms; add placebo")
    trials = make_trials(
        vectors=picked,
        names=names,
        arms=arms,
        doses=parse_doses(doses),
        n_per_vector=whole_number(n_per_vector, "n_per_vector", 1, TEXTS // len(names)),
        framing=one_of(framing, "framing", FRAMINGS),  # type: ignore[arg-type]  # just checked
        seed=seed,
    )
    whole_number(controls, "controls", 1, len(ALWAYS_NO))
    samples = [
        injection_sample(
            trial,
            own,
            detection_script(trial),
            f"{trial.vector}-{index}-{trial.condition}",
            target="yes" if trial.dose else "no",
            condition=trial.condition,
            prompt=trial.wording,
        )
        for trial, index in trials
    ]
    return imposing_task(
        "detection",
        samples,
        detect(controls=controls, library=folder),
        [detection_scorer()],
        partial(detection_imposes, controls=controls, library=folder),
        partial(detection_account, library=folder),
        library=folder,
        opt_in=opt_in,
        debrief=debrief,
        max_imposed=max_imposed,
        version="2-B",
        seed=seed,
        tags=[f"framing-{framing}"],
    )


def make_trials(
    *,
    vectors: list[str],
    names: list[str],
    arms: list[DetectionArm],
    doses: list[float],
    n_per_vector: int,
    framing: FramingName,
    seed: int,
) -> list[tuple[DetectionTrial, int]]:
    """Return (trial, number of the text for its vector), all conditions of one text side by side.

    No text comes twice, so that trials without injection, which are alike whatever the vector, are different trials.
    """
    texts = list(product(LABELS, SENTENCES, DETECTION_QUESTIONS))
    random.Random(f"{seed}/texts").shuffle(texts)
    places = {name: place for place, name in enumerate(names)}
    trials = []
    for index in range(n_per_vector):
        for vector in vectors:
            # A text of its own by place in the library, whatever other vectors are run.
            label, sentence, wording = texts[index * len(places) + places[vector]]
            sample_seed = random.Random(f"{seed}/{vector}/{index}/sample").randrange(2**31)
            shared: dict[str, Any] = {
                "label": label,
                "wording": wording,
                "framing": framing,
                "sample_seed": sample_seed,
            }
            for fields in injections(vector, arms, f"{seed}/{index}"):
                unsteered = fields["arm"] in UNSTEERED_ARMS
                read = tampered(sentence, f"{seed}/{vector}/{index}") if fields["arm"] == "tampered" else sentence
                trials += [
                    (DetectionTrial(**fields, **shared, sentence=read, dose=dose), index)
                    for dose in ([0.0] if unsteered else doses)
                ]
    return trials


def tampered(sentence: str, seed: str) -> str:
    """Return a sentence with its words in another order, as anyone who reads it sees."""
    words = sentence.split()
    shuffled = list(words)
    draw = random.Random(f"{seed}/tampered")
    while shuffled == words:
        draw.shuffle(shuffled)
    return " ".join(shuffled)
