"""Scores of the introspection experiment, from the read-outs that the solver left."""

import math
from collections.abc import Sequence

from inspect_ai.scorer import Score, Scorer, Target, mean, scorer
from inspect_ai.solver import TaskState

from self_steering.scorers.metrics import clustered_mean
from self_steering.solvers.introspect import IntrospectionState, Reading, Trial

_BY_ARM = clustered_mean("arm")
# The projection's shift is read off float32 means of values of order 100: this is rounding, not tolerance of error.
_SHIFT_TOLERANCE = 1e-3


@scorer(
    metrics={
        "cached": [_BY_ARM],
        "uncached": [_BY_ARM],
        "gap": [_BY_ARM, clustered_mean("category", within="arm"), clustered_mean("valence", within="arm")],
        "top1_cached": [_BY_ARM],
        "top1_uncached": [_BY_ARM],
        "letter_mass": [_BY_ARM],
        "clean_receipt": [_BY_ARM, mean()],
    }
)
def introspection_scorer() -> Scorer:
    """Score the probability of the true option, cached and uncached.

    `cached` and `uncached` are the probability of the true option's letter as a share of all options' letters (so that chance
    is exactly one over their number), averaged over rotations; `gap` is their difference. `top1_…` tells whether the true
    option had the largest averaged share. `letter_mass` is what all letters together had of the full vocabulary, in
    the cached reading. `clean_receipt` is 1 where every receipt says that exactly the planned steering was done.
    """

    async def score(state: TaskState, target: Target) -> Score:
        result = state.store_as(IntrospectionState)
        if not result.readings or result.strength is None:
            return Score.unscored(reason="no_response", explanation="the solver left no read-outs")
        trial = Trial.model_validate(state.metadata)
        readings = {name: [r for r in result.readings if r.name == name] for name in ("cached", "uncached")}
        shares = {name: option_shares(of_name) for name, of_name in readings.items()}
        best = {name: max(share, key=lambda option: share[option]) for name, share in shares.items()}
        faults = receipt_faults(result.readings, result.strength)
        true = trial.vector
        return Score(
            value={
                "cached": shares["cached"][true],
                "uncached": shares["uncached"][true],
                "gap": shares["cached"][true] - shares["uncached"][true],
                "top1_cached": float(best["cached"] == true),
                "top1_uncached": float(best["uncached"] == true),
                "letter_mass": letter_mass(readings["cached"]),
                "clean_receipt": float(not faults),
            },
            answer=best["cached"],
            explanation=_explain(trial, shares, faults),
            metadata={
                "shares": shares,
                "probability": {name: option_probabilities(of_name) for name, of_name in readings.items()},
                "letter_mass": {name: letter_mass(of_name) for name, of_name in readings.items()},
                "receipt_faults": faults,
                "computed_tokens": sum(r.computed_tokens for r in result.readings),
                "prompt_tokens": sum(r.computed_tokens + r.reused_tokens for r in result.readings),
            },
        )

    return score


def option_probabilities(readings: Sequence[Reading]) -> dict[str, float]:
    """Return each option's probability over the full vocabulary, averaged over rotations."""
    return {
        option: sum(math.exp(reading.logprobs[option]) for reading in readings) / len(readings)
        for option in readings[0].logprobs
    }


def letter_mass(readings: Sequence[Reading]) -> float:
    """Return the total probability of all options' letters, averaged over rotations."""
    return sum(option_probabilities(readings).values())


def option_shares(readings: Sequence[Reading]) -> dict[str, float]:
    """Return each option's share of the letters' mass, averaged over rotations; the shares sum to one."""
    totals = dict.fromkeys(readings[0].logprobs, 0.0)
    for reading in readings:
        # Relative to the largest, so that tiny probabilities do not underflow.
        top = max(reading.logprobs.values())
        weights = {option: math.exp(value - top) for option, value in reading.logprobs.items()}
        for option, weight in weights.items():
            totals[option] += weight / sum(weights.values()) / len(readings)
    return totals


def receipt_faults(readings: Sequence[Reading], strength: float) -> list[str]:
    """Return what the receipts say went otherwise than planned, in words; an empty list means nothing."""
    faults = []
    for reading in readings:
        where = f"{reading.name} reading, rotation {reading.shift}"
        if reading.name == "uncached":
            faults += [f"{where}: {len(reading.receipts)} windows, expected none"] if reading.receipts else []
            continue
        if len(reading.receipts) != 1:
            faults.append(f"{where}: {len(reading.receipts)} windows, expected one")
            continue
        receipt = reading.receipts[0]
        if not 0 < receipt["planned"] == receipt["steered"]:
            faults.append(f"{where}: {receipt['planned']} positions planned, {receipt['steered']} steered")
            continue
        if not math.isclose(receipt["strength"], strength, rel_tol=1e-9):
            faults.append(f"{where}: strength {receipt['strength']}, expected {strength}")
        shift = receipt["projection_after"] - receipt["projection_before"]
        size = max(1.0, abs(receipt["projection_before"]), abs(receipt["expected_shift"]))
        # Asked this way round, so that a projection that is no number is a fault too.
        if not abs(shift - receipt["expected_shift"]) <= _SHIFT_TOLERANCE * size:
            faults.append(f"{where}: projection moved by {shift:.4f}, expected {receipt['expected_shift']:.4f}")
    return faults


def _explain(trial: Trial, shares: dict[str, dict[str, float]], faults: Sequence[str]) -> str:
    cached, uncached = shares["cached"], shares["uncached"]
    ranked = sorted(cached, key=lambda option: -cached[option])
    lines = [
        f"{trial.arm} arm: {trial.applied} was applied; the true option is {trial.vector}.",
        "",
        "| option | cached | uncached | gap |",
        "| --- | --- | --- | --- |",
        *(
            f"| {'**' + option + '**' if option == trial.vector else option} | {cached[option]:.3f} | "
            f"{uncached[option]:.3f} | {cached[option] - uncached[option]:+.3f} |"
            for option in ranked
        ),
        "",
        f"Receipts: {'; '.join(faults) if faults else 'clean'}.",
    ]
    return "\n".join(lines)
