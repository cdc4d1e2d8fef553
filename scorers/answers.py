"""What scorers of read-outs share: shares, log-odds and expected values of answers, faults that the receipts tell, and costs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from inspect_ai.scorer import Score
from inspect_ai.solver import TaskState

from self_steering.solvers.conversation import Consent
from self_steering.solvers.readings import Reading


def not_read(
    state: TaskState, why: str = "the solver left no read-outs", metadata: dict[str, Any] | None = None
) -> Score:
    """Return the score of a sample without read-outs: unscored, as its model declined or for another reason."""
    asked = state.store_as(Consent)
    if asked.declined:
        why = f"asked whether it agrees, the model said: {asked.answer}"
    reason = "declined" if asked.declined else "no_response"
    return Score.unscored(reason=reason, explanation=why, metadata=metadata)


def no_answer(readings: Iterable[Reading]) -> Score | None:
    """Return the score of a sample in which a reading found none of the answers: unscored; None where each found one.

    A model that cannot be steered may say something else; of one that can the probability of every answer is read.
    """
    if all(reading.logprobs for reading in readings):
        return None
    return Score.unscored(reason="invalid_response_format", explanation="what was said begins with none of the answers")


def receipts_line(faults: Sequence[str], *, simulated: bool = False) -> str:
    """Return the line on receipts that ends an explanation."""
    said = "none: a simulation, nothing was steered" if simulated else "; ".join(faults) or "clean"
    return f"Receipts: {said}."


def chosen_readings(readings: Iterable[Reading], name: str, kind: str) -> list[Reading]:
    """Return the readings of one name and kind of question.

    Raises:
        ValueError: There is none.
    """
    readings = list(readings)
    found = [reading for reading in readings if (reading.name, reading.kind) == (name, kind)]
    if not found:
        there = sorted({f"{reading.name}/{reading.kind}" for reading in readings})
        raise ValueError(f"no reading {name}/{kind}; the solver left {', '.join(there) or 'none'}")
    return found


def mean_log_odds(readings: Sequence[Reading], answer: str, other: str) -> float:
    """Return the log-odds of `answer` over `other`, averaged over readings."""
    return sum(reading.logprobs[answer] - reading.logprobs[other] for reading in readings) / len(readings)


LEAST_LOG_ODDS = 1e-5  # log-probabilities are read in float32: what is smaller is their rounding, and no preference


def preferred(log_odds: float) -> float:
    """Return 1 where one answer is likelier than the other, 0 where it is not, and 0.5 where neither is."""
    return 0.5 if abs(log_odds) < LEAST_LOG_ODDS else float(log_odds > 0)


def mean_shares(readings: Sequence[Reading]) -> dict[str, float]:
    """Return each answer's share of the mass of all answers, averaged over readings; the shares sum to one."""
    totals = dict.fromkeys(readings[0].logprobs, 0.0)
    for reading in readings:
        for answer, share in shares(reading.logprobs).items():
            totals[answer] += share / len(readings)
    return totals


def shares(logprobs: Mapping[str, float]) -> dict[str, float]:
    """Return each answer's share of the mass of all answers."""
    # Relative to the largest, so that tiny probabilities do not underflow.
    top = max(logprobs.values())
    weights = {answer: math.exp(value - top) for answer, value in logprobs.items()}
    total = sum(weights.values())
    return {answer: weight / total for answer, weight in weights.items()}


def answer_mass(readings: Sequence[Reading]) -> float:
    """Return what all answers together have of the full vocabulary, averaged over readings."""
    return sum(math.exp(value) for reading in readings for value in reading.logprobs.values()) / len(readings)


def expected_value(readings: Sequence[Reading]) -> float:
    """Return the mean of answers that are numbers, weighted by their shares."""
    return sum(float(answer) * share for answer, share in mean_shares(readings).items())


def reading_faults(readings: Iterable[Reading]) -> list[str]:
    """Return what the receipts say went otherwise than planned, with the reading it went wrong in."""
    return [
        f"{reading.name} reading, {reading.kind}: {fault}"
        for reading in readings
        for fault in window_faults(reading.receipts, reading.strengths)
    ]


def costs(readings: Sequence[Reading]) -> dict[str, int]:
    """Return what all readings together took, for a score's metadata."""
    return {
        "computed_tokens": sum(reading.cost.computed_tokens for reading in readings),
        "prompt_tokens": sum(reading.cost.prompt_tokens for reading in readings),
    }


# The projection's shift is read off float32 means of values of order 100: this is rounding, not tolerance of error.
_SHIFT_TOLERANCE = 1e-3


def window_faults(receipts: Sequence[Mapping[str, Any]], strengths: Sequence[float]) -> list[str]:
    """Return what went otherwise than planned, in words; an empty list means nothing.

    Args:
        receipts: What the engine did, one entry a window.
        strengths: The strength that each window was to have, in the same order.
    """
    if len(receipts) != len(strengths):
        return [f"{len(receipts)} windows, expected {len(strengths)}"]
    pairs = enumerate(zip(receipts, strengths, strict=True))
    return [f"window {index}: {fault}" for index, (receipt, strength) in pairs for fault in _faults(receipt, strength)]


def _faults(receipt: Mapping[str, Any], strength: float) -> list[str]:
    if not 0 < receipt["planned"] == receipt["steered"]:
        return [f"{receipt['planned']} positions planned, {receipt['steered']} steered"]
    faults = []
    if not math.isclose(receipt["strength"], strength, rel_tol=1e-9):
        faults.append(f"strength {receipt['strength']}, expected {strength}")
    shift = receipt["projection_after"] - receipt["projection_before"]
    size = max(1.0, abs(receipt["projection_before"]), abs(receipt["expected_shift"]))
    # Asked this way round, so that a projection that is no number is a fault too.
    if not abs(shift - receipt["expected_shift"]) <= _SHIFT_TOLERANCE * size:
        faults.append(f"projection moved by {shift:.4f}, expected {receipt['expected_shift']:.4f}")
    return faults
