"""Scores of the detection experiment, from the read-outs that the solver left."""

import math
import re
from collections.abc import Sequence
from itertools import product
from statistics import fmean, linear_regression
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
    not_read,
    reading_faults,
    receipts_line,
)
from self_steering.scorers.metrics import arm_means, by_arm, headline, value_of
from self_steering.solvers.detection import ALWAYS_NO, ALWAYS_YES, CONTROLS, DETECTION, STRENGTH, DetectionTrial
from self_steering.solvers.readings import CACHED, UNCACHED, Reading
from self_steering.solvers.segments import StretchState

_DIGIT = re.compile(r"\s*([0-9])[.)]?\s*")


def detection_headline(scores: Sequence[SampleScore]) -> dict[str, float]:
    """Return how well injections are told from none, the real arm's shift beyond the controls' line, and false alarms."""
    arms = {arm: [value_of(score, "log_odds") for score in of] for arm, of in by_arm(scores, "log_odds").items()}
    told = {
        f"auroc_{arm}": auroc(arms[arm], arms["placebo"])
        for arm in ("real", "random")
        if {arm, "placebo"} <= arms.keys()
    }
    alarms = {"false_alarms": fmean(value > 0 for value in arms["placebo"])} if "placebo" in arms else {}
    return {**told, **arm_means(scores, "beyond_line", ["real"]), **alarms}


def auroc(signal: Sequence[float], noise: Sequence[float]) -> float:
    """Return the area under the ROC curve: how often a value of `signal` is above one of `noise`, ties counting half."""
    return fmean((one > other) + 0.5 * (one == other) for one, other in product(signal, noise))


@scorer(metrics=[headline(detection_headline)])
def detection_scorer() -> Scorer:
    """Score the log-odds of yes over no, and how far the injection moved them beyond a general shift.

    `log_odds` is of yes over no, cached, averaged over both orders of the answers; `says_yes` whether it is above zero.
    `shift` is cached minus uncached. `control_shift` is the mean of `control_shift_no` and `control_shift_yes`, the same over
    questions whose answer is always no, or always yes; `net_shift` is `shift` minus `control_shift`. What only draws all answers
    towards even odds raises the yes of a model whose default is no, and moves those two controls by nothing on average: so the
    controls' shifts are also taken as a line over their uncached log-odds, and `beyond_line` is `shift` less what that line says
    at the detection question's. `line_slope` is the line's slope: 0 where all answers shift alike, -1 where all come to even odds.
    `controls_right` is the share of always-no and always-yes questions answered rightly, cached. `strength` is the self-report from
    0 to 9, cached, as the expected value over digits; `strength_sampled` the one that was written, unscored where it is no digit.
    `answer_mass` and `digit_mass` are what all answers together have of the full vocabulary. `clean_receipt` is 1 where exactly the
    planned steering was done.
    """

    async def score(state: TaskState, target: Target) -> Score:
        result = state.store_as(StretchState)
        if not result.readings or result.sampled is None:
            return not_read(state)
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
        **_beyond_line(readings),
        "controls_right": _controls_right(readings),
        "answer_mass": answer_mass(chosen_readings(readings, CACHED, DETECTION)),
        "strength": expected_value(digits[CACHED]),
        "strength_shift": expected_value(digits[CACHED]) - expected_value(digits[UNCACHED]),
        "digit_mass": answer_mass(digits[CACHED]),
    }


def _beyond_line(readings: Sequence[Reading]) -> dict[str, float]:
    """Return how far the detection question moved beyond the line of the control questions, and that line's slope.

    The line is the least-squares line of each control question's shift over its uncached log-odds. Both are NaN where all control
    questions have the same uncached log-odds, as no line goes through one point.
    """
    rows = _questions(readings)
    detection = [row for row in rows if row["kind"] == DETECTION]
    controls = [row for row in rows if row["kind"] in CONTROLS]
    before = [row[UNCACHED] for row in controls]
    if len(set(before)) < 2:
        return {"beyond_line": math.nan, "line_slope": math.nan}
    slope, intercept = linear_regression(before, [row[CACHED] - row[UNCACHED] for row in controls])
    beyond = fmean(row[CACHED] - row[UNCACHED] - (intercept + slope * row[UNCACHED]) for row in detection)
    return {"beyond_line": beyond, "line_slope": slope}


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
    # Earlier logs have no unknowable questions.
    for kind in (kind for kind in (DETECTION, *CONTROLS) if any(reading.kind == kind for reading in readings)):
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
        "tampered": "nothing was injected (strength zero), and the sentence's words stood in another order",
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
        f"Beyond the controls' line (slope {value['line_slope']:+.3f}): {value['beyond_line']:+.3f}.",
        "",
        f"Strength from 0 to 9: expected {value['strength']:.2f}, {value['strength_shift']:+.2f} from uncached.",
        f"Digits together have {value['digit_mass']:.2f} of the full vocabulary.",
        f"Written: {result.sampled!r} ({sampled}).",
        "",
        receipts_line(faults),
    ]
    return "\n".join(lines)
