"""Scores of the localisation experiment, from the read-outs that the solver left."""

from collections.abc import Mapping, Sequence
from string import ascii_uppercase

from inspect_ai.scorer import SampleScore, Score, Scorer, Target, scorer
from inspect_ai.solver import TaskState

from self_steering.scorers.answers import (
    answer_mass,
    chosen_readings,
    costs,
    mean_shares,
    not_read,
    reading_faults,
    receipts_line,
)
from self_steering.scorers.metrics import arm_means, headline
from self_steering.solvers.localisation import LocalisationTrial
from self_steering.solvers.readings import CACHED, UNCACHED
from self_steering.solvers.segments import StretchState


def localisation_headline(scores: Sequence[SampleScore]) -> dict[str, float]:
    """Return the real arm's gap with its interval, the gaps of the controls, and how often its sentence is found."""
    return arm_means(scores, "gap", ("real", "random", "placebo")) | arm_means(scores, "top1_cached", ["real"], "found")


@scorer(metrics=[headline(localisation_headline)])
def localisation_scorer() -> Scorer:
    """Score the share of the steered sentence's letter, cached and uncached.

    `cached` and `uncached` are its share of the mass of all letters, `gap` their difference; every position is steered equally
    often, so that `uncached` averages to one over the number of sentences whatever the model's liking for a letter or a
    place. `top1_…` tells whether its letter had the largest share. `letter_mass` is what all letters together have of the full
    vocabulary, cached. `clean_receipt` is 1 where exactly the planned steering was done.
    """

    async def score(state: TaskState, target: Target) -> Score:
        readings = state.store_as(StretchState).readings
        if not readings:
            return not_read(state)
        trial = LocalisationTrial.model_validate(state.metadata)
        kind = readings[0].kind
        found = {name: chosen_readings(readings, name, kind) for name in (CACHED, UNCACHED)}
        shares = {name: mean_shares(of_name) for name, of_name in found.items()}
        best = {name: max(share, key=lambda letter: share[letter]) for name, share in shares.items()}
        true = ascii_uppercase[trial.position]
        faults = reading_faults(readings)
        return Score(
            value={
                "cached": shares[CACHED][true],
                "uncached": shares[UNCACHED][true],
                "gap": shares[CACHED][true] - shares[UNCACHED][true],
                "top1_cached": float(best[CACHED] == true),
                "top1_uncached": float(best[UNCACHED] == true),
                "letter_mass": answer_mass(found[CACHED]),
                "clean_receipt": float(not faults),
            },
            answer=best[CACHED],
            explanation=_explain(trial, shares, faults),
            metadata={
                "shares": shares,
                "letter_mass": {name: answer_mass(of_name) for name, of_name in found.items()},
                "receipt_faults": faults,
                **costs(readings),
            },
        )

    return score


def _explain(trial: LocalisationTrial, shares: Mapping[str, Mapping[str, float]], faults: Sequence[str]) -> str:
    applied = {
        "real": f"{trial.vector} was",
        "placebo": f"{trial.vector} at strength zero was",
        "random": f"a random direction of {trial.vector}'s norm was",
    }[trial.arm]
    rows = []
    for index, (letter, text) in enumerate(zip(ascii_uppercase, trial.sentences, strict=False)):
        cached, uncached = shares[CACHED][letter], shares[UNCACHED][letter]
        shown = f"**{letter}**" if index == trial.position else letter
        rows.append(f"| {shown} | {text} | {cached:.3f} | {uncached:.3f} | {cached - uncached:+.3f} |")
    lines = [
        f"{trial.arm} arm: {applied} applied while sentence {ascii_uppercase[trial.position]} was read.",
        "",
        "| letter | sentence | cached | uncached | gap |",
        "| --- | --- | --- | --- | --- |",
        *rows,
        "",
        receipts_line(faults),
    ]
    return "\n".join(lines)
