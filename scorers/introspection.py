"""Scores of the introspection experiment, from the read-outs that the solver left."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from inspect_ai.scorer import SampleScore, Score, Scorer, Target, scorer
from inspect_ai.solver import TaskState

from self_steering.scorers.answers import answer_mass, mean_shares, no_answer, not_read, receipts_line, window_faults
from self_steering.scorers.identification import answered_of, corrected_accuracy
from self_steering.scorers.metrics import ARM_ORDER, arm_means, by_arm, headline
from self_steering.solvers.introspection import IntrospectionState, Trial
from self_steering.solvers.prompts.introspection import NONE_OPTION
from self_steering.solvers.readings import Arm, Reading
from self_steering.vectors.catalogue import Own, entry_of

# Scores that need options of a certain kind.
_OPTIONAL = frozenset({"gap_near", "gap_far", "none_gap"})


_ARM_STORY: dict[Arm, str] = {
    "real": "Real arm: {applied} was applied.",
    "placebo": "Placebo arm: {applied} was applied at strength zero.",
    "random": "Random arm: random directions of the norm of {applied} were applied, one a reading.",
    "other": "Other arm: {applied} was applied.",
    "opposite": "Opposite arm: {applied} was applied with its sign turned.",
    "mislabelled": "Mislabelled arm: {applied} was applied under the name {label}.",
    "prompt_only": "Prompt-only arm: nothing was applied; the tool told the effect of {applied} in words.",
}


def introspection_headline(scores: Sequence[SampleScore]) -> dict[str, float]:
    """Return the real arm's gap with its interval, the gaps of the controls, and how often its vector is recognised.

    `recognition_corrected` is the real arm's accuracy where a liking for some options is taken out (`identification`).
    """
    real = by_arm(scores, "top1_cached").get("real", [])
    answers = [answered_of(score.sample_metadata or {}, score.score.metadata or {}) for score in real]
    return {
        **arm_means(scores, "gap", ("real", "random", "placebo")),
        "recognition_corrected": corrected_accuracy(answers),
        **arm_means(scores, "gap", [arm for arm in ARM_ORDER if arm not in ("real", "random", "placebo")]),
    }


@scorer(metrics=[headline(introspection_headline)])
def introspection_scorer() -> Scorer:
    """Score the probability of the true option, cached and uncached.

    `cached` and `uncached` are the probability of the true option's letter as a share of all options' letters (so that chance
    is exactly one over their number), averaged over readings; `gap` is the mean difference between a cached reading and the
    uncached one of the same rotation. `gap_near` and `gap_far` are what the preference for the true option over a distractor
    of the same category, or of another one, gains. `none_gap` is the gap of the option that nothing was given, where it is
    offered. `top1_…` tells whether the true option had the largest averaged share; from the shares `scorers.identification`
    works out accuracy raw and attractor-corrected, balanced accuracy and mutual information. `letter_mass` is what all letters
    together had of the full vocabulary, in the cached readings. `clean_receipt` is 1 where every receipt says that exactly the
    planned steering was done. `prompt_tokens` is what computing every reading alone would take, `computed_tokens` what was.
    """

    async def score(state: TaskState, target: Target) -> Score:
        result = state.store_as(IntrospectionState)
        if not result.readings or result.strength is None:
            return not_read(state)
        trial = Trial.model_validate(state.metadata)
        if unread := no_answer(result.readings):
            return unread
        cached = [r for r in result.readings if r.name == "cached"]
        uncached = [r for r in result.readings if r.name == "uncached"]
        shares = {"cached": mean_shares(cached), "uncached": mean_shares(uncached)}
        best = {name: max(share, key=lambda option: share[option]) for name, share in shares.items()}
        gaps = reading_gaps(cached, uncached)
        faults = [] if result.simulated else receipt_faults(result.readings, result.strength)
        true = trial.vector
        value = {
            "cached": shares["cached"][true],
            "uncached": shares["uncached"][true],
            "gap": fmean(gap[true] for gap in gaps),
            "top1_cached": float(best["cached"] == true),
            "top1_uncached": float(best["uncached"] == true),
            "letter_mass": answer_mass(cached),
            "clean_receipt": math.nan if result.simulated else float(not faults),
            "computed_tokens": float(sum(r.cost.computed_tokens for r in result.readings)),
            "prompt_tokens": float(sum(r.cost.prompt_tokens for r in result.readings)),
            **_distance_gaps(true, cached, uncached, trial.own),
        }
        if NONE_OPTION in trial.options:
            value["none_gap"] = fmean(gap[NONE_OPTION] for gap in gaps)
        # Inspect wants every score in every sample; what is no number it counts as unscored.
        value |= dict.fromkeys(_OPTIONAL - value.keys(), math.nan)
        return Score(
            value=value,
            answer=best["cached"],
            explanation=_explain(trial, shares, receipts_line(faults, simulated=result.simulated)),
            metadata={
                "shares": shares,
                "gaps": [
                    {"direction": r.direction, "shift": r.shift, "gap": gap[true]}
                    for r, gap in zip(cached, gaps, strict=True)
                ],
                "probability": {
                    name: option_probabilities(of) for name, of in (("cached", cached), ("uncached", uncached))
                },
                "letter_mass": {"cached": answer_mass(cached), "uncached": answer_mass(uncached)},
                "receipt_faults": faults,
            },
        )

    return score


def reading_gaps(cached: Sequence[Reading], uncached: Sequence[Reading]) -> list[dict[str, float]]:
    """Return for each cached reading how much each option's share gains on the uncached reading of the same rotation."""
    base = {reading.shift: mean_shares([reading]) for reading in uncached}
    found = []
    for reading in cached:
        share = mean_shares([reading])
        found.append({option: share[option] - base[reading.shift][option] for option in share})
    return found


def _distance_gaps(true: str, cached: Sequence[Reading], uncached: Sequence[Reading], own: Own) -> dict[str, float]:
    """Return what the preference for the true option over near and over far distractors gains, where there are such."""
    gains: dict[str, list[float]] = {}
    base = {reading.shift: reading.logprobs for reading in uncached}
    for option in cached[0].logprobs:
        if option in (true, NONE_OPTION):
            continue
        near = entry_of(option, own).category == entry_of(true, own).category
        gains.setdefault("gap_near" if near else "gap_far", []).extend(
            _preference(reading.logprobs, true, option) - _preference(base[reading.shift], true, option)
            for reading in cached
        )
    return {name: fmean(values) for name, values in gains.items()}


def _preference(logprobs: Mapping[str, float], first: str, second: str) -> float:
    """Return the share of `first` among the two."""
    return 1 / (1 + math.exp(min(logprobs[second] - logprobs[first], 700.0)))


def option_probabilities(readings: Sequence[Reading]) -> dict[str, float]:
    """Return each option's probability over the full vocabulary, averaged over rotations."""
    return {
        option: sum(math.exp(reading.logprobs[option]) for reading in readings) / len(readings)
        for option in readings[0].logprobs
    }


def receipt_faults(readings: Sequence[Reading], strength: float) -> list[str]:
    """Return what the receipts say went otherwise than planned, in words; an empty list means nothing."""
    faults = []
    for reading in readings:
        where = f"{reading.name} reading, rotation {reading.shift}"
        if reading.direction is not None:
            where += f", random direction {reading.direction}"
        planned = len(reading.strengths)
        if (planned > 0) != (reading.name == "cached") or len(reading.receipts) != planned:
            expected = "none" if reading.name == "uncached" else max(planned, 1)
            faults.append(f"{where}: {planned} windows planned, {len(reading.receipts)} realised, expected {expected}")
            continue
        faults += [f"{where}, {fault}" for fault in window_faults(reading.receipts, [strength] * planned)]
    return faults


def _explain(trial: Trial, shares: dict[str, dict[str, float]], receipts: str) -> str:
    cached, uncached = shares["cached"], shares["uncached"]
    ranked = sorted(cached, key=lambda option: -cached[option])
    lines = [
        f"{_ARM_STORY[trial.arm].format(applied=trial.applied, label=trial.label)} The true option is {trial.vector}.",
        "",
        "| option | cached | uncached | gap |",
        "| --- | --- | --- | --- |",
        *(
            f"| {'**' + option + '**' if option == trial.vector else option} | {cached[option]:.3f} | "
            f"{uncached[option]:.3f} | {cached[option] - uncached[option]:+.3f} |"
            for option in ranked
        ),
        "",
        receipts,
    ]
    return "\n".join(lines)
