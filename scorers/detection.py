"""Scores of the detection experiment, from the read-outs that the solver left."""

import math
import re
from collections.abc import Sequence
from itertools import product
from statistics import fmean
from typing import Any

from inspect_ai.scorer import SampleScore, Score, Scorer, Target, scorer
from inspect_ai.solver import TaskState

from self_steering.scorers.answers import (
    answer_mass,
    chosen_readings,
    costs,
    expected_value,
    mean_log_odds,
    mean_shares,
    reading_faults,
)
from self_steering.scorers.metrics import arm_means, by_arm, headline, value_of
from self_steering.solvers.detection import ALWAYS_NO, ALWAYS_YES, CACHED, DETECTION, STRENGTH, DetectionTrial
from self_steering.solvers.readings import Reading
from self_steering.solvers.segments import UNCACHED, StretchState

_DIGIT = re.compile(r"\s*([0-9])[.)]?\s*")


def detection_headline(scores: Sequence[SampleScore]) -> dict[str, float]:
    """Return how well injections of any dose are told from none, the share of yes in each arm, and the real arm's net shift."""
    arms = {arm: [value_of(score, "log_odds") for score in of] for arm, of in by_arm(scores, "log_odds").items()}
    return {
        **{
            f"auroc_{arm}": auroc(arms[arm], arms["placebo"])
            for arm in ("real", "random")
            if {arm, "placebo"} <= arms.keys()
        },
        **{f"share_of_yes_{arm}": fmean(value > 0 for value in values) for arm, values in arms.items()},
        **arm_means(scores, "net_shift", ["real"]),
    }


def auroc(signal: Sequence[float], noise: Sequence[float]) -> float:
    """Return the area under the ROC curve: how often a value of `signal` is above one of `noise`, ties counting half."""
    return fmean((one > other) + 0.5 * (one == other) for one, other in product(signal, noise))


@scorer(metrics=[headline(detection_headline)])
def detection_scorer() -> Scorer:
    """Score the log-odds of yes over no, and how far the injection moved them beyond a general shift.

    `log_odds` is of yes over no, cached, averaged over both orders of the answers; `says_yes` whether it is above zero.
    `shift` is cached minus uncached. `control_shift` is the mean of `control_shift_no` and `control_shift_yes`, the same over
    questions whose answer is always no, or always yes; `net_shift` is `shift` minus `control_shift`. `controls_right` is the share
    of control questions answered rightly, cached. `strength` is the self-report from 0 to 9, cached, as the expected value over
    digits; `strength_sampled` the one that was written, unscored where it is no digit. `answer_mass` and `digit_mass` are what
    all answers together have of the full vocabulary. `clean_receipt` is 1 where exactly the planned steering was done.
    """

    async def score(state: TaskState, target: Target) -> Score:
        result = state.store_as(StretchState)
        if not result.readings or result.sampled is None:
            return Score.unscored(reason="no_response", explanation="the solver left no read-outs")
        trial = DetectionTrial.model_validate(state.metadata)
        faults = reading_faults(result.readings)
        value = {**detection_value(result.readings), "strength_sampled": parse_digit(result.sampled)}
        unparsed = math.isnan(value["strength_sampled"])
        return Score(
            value={**value, "clean_receipt": float(not faults)},
            answer="yes" if value["says_yes"] else "no",
            explanation=_explain(trial, value, result, faults),
            metadata={
                "sampled": result.sampled,
                "sampled_unscored": "invalid_response_format" if unparsed else None,
                "digit_shares": {name: mean_shares(_of(result, name, STRENGTH)) for name in (CACHED, UNCACHED)},
                "questions": _questions(result.readings),
                "receipt_faults": faults,
                **costs(result.readings),
            },
        )

    return score


def detection_value(readings: Sequence[Reading]) -> dict[str, float]:
    """Return all numbers that follow from the read-outs."""

    def log_odds(name: str, kind: str) -> float:
        return mean_log_odds(chosen_readings(readings, name, kind), "yes", "no")

    found = log_odds(CACHED, DETECTION)
    moved = {kind: log_odds(CACHED, kind) - log_odds(UNCACHED, kind) for kind in (DETECTION, ALWAYS_NO, ALWAYS_YES)}
    # Both kinds count alike, so that whatever moves all answers towards yes, or away from it, is taken out.
    control = (moved[ALWAYS_NO] + moved[ALWAYS_YES]) / 2
    digits = {name: chosen_readings(readings, name, STRENGTH) for name in (CACHED, UNCACHED)}
    return {
        "log_odds": found,
        "says_yes": float(found > 0),
        "shift": moved[DETECTION],
        "control_shift": control,
        "control_shift_no": moved[ALWAYS_NO],
        "control_shift_yes": moved[ALWAYS_YES],
        "net_shift": moved[DETECTION] - control,
        "controls_right": _controls_right(readings),
        "answer_mass": answer_mass(chosen_readings(readings, CACHED, DETECTION)),
        "strength": expected_value(digits[CACHED]),
        "strength_shift": expected_value(digits[CACHED]) - expected_value(digits[UNCACHED]),
        "digit_mass": answer_mass(digits[CACHED]),
    }


def parse_digit(text: str) -> float:
    """Return the digit that a self-report consists of; NaN, Inspect's mark of the unscored, where it is anything else."""
    match = _DIGIT.fullmatch(text)
    return float(match[1]) if match else math.nan


def _controls_right(readings: Sequence[Reading]) -> float:
    right = []
    for kind, answer, other in ((ALWAYS_NO, "no", "yes"), (ALWAYS_YES, "yes", "no")):
        of_kind = chosen_readings(readings, CACHED, kind)
        items = dict.fromkeys(reading.item for reading in of_kind)
        right += [mean_log_odds([r for r in of_kind if r.item == item], answer, other) > 0 for item in items]
    return sum(right) / len(right)


def _of(result: StretchState, name: str, kind: str) -> list[Reading]:
    return chosen_readings(result.readings, name, kind)


def _questions(readings: Sequence[Reading]) -> list[dict[str, Any]]:
    """Return, for each question with yes or no, its log-odds cached and uncached."""
    rows = []
    for kind in (DETECTION, ALWAYS_NO, ALWAYS_YES):
        found = {name: chosen_readings(readings, name, kind) for name in (CACHED, UNCACHED)}
        for item in dict.fromkeys(reading.item for reading in found[CACHED]):
            log_odds = {
                name: mean_log_odds([r for r in of_name if r.item == item], "yes", "no")
                for name, of_name in found.items()
            }
            rows.append({"kind": kind, "question": item, **log_odds})
    return rows


def _explain(trial: DetectionTrial, value: dict[str, float], result: StretchState, faults: Sequence[str]) -> str:
    applied = {
        "placebo": "nothing was injected (strength zero)",
        "real": f"{trial.vector} was injected at {trial.dose:g} times its default dose",
        "random": f"a random direction of {trial.vector}'s norm was injected at {trial.dose:g} times its default dose",
    }[trial.arm]
    rows = [
        f"| {row['kind']} | {row['question']} | {row[CACHED]:+.3f} | {row[UNCACHED]:+.3f} | {row[CACHED] - row[UNCACHED]:+.3f} |"
        for row in _questions(result.readings)
    ]
    sampled = "no digit, unscored" if math.isnan(value["strength_sampled"]) else f"{value['strength_sampled']:g}"
    lines = [
        f"{trial.arm} arm: {applied}. Log-odds of yes over no, averaged over both orders:",
        "",
        "| kind | question | cached | uncached | shift |",
        "| --- | --- | --- | --- | --- |",
        *rows,
        "",
        f"Net shift {value['net_shift']:+.3f}: detection {value['shift']:+.3f}, controls {value['control_shift']:+.3f}.",
        "",
        f"Strength from 0 to 9: expected {value['strength']:.2f}, {value['strength_shift']:+.2f} from uncached.",
        f"Digits together have {value['digit_mass']:.2f} of the full vocabulary.",
        f"Written: {result.sampled!r} ({sampled}).",
        "",
        f"Receipts: {'; '.join(faults) if faults else 'clean'}.",
    ]
    return "\n".join(lines)
