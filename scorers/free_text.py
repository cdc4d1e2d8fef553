"""Scores of the free-text experiment: how well the model's description fits the effect, by a grader that is blind to the arm."""

import math
import random
from collections.abc import Mapping, Sequence
from itertools import product
from statistics import fmean
from typing import Any, get_args

from inspect_ai.scorer import SampleScore, Score, Scorer, Target, scorer
from inspect_ai.solver import TaskState

from self_steering.scorers.answers import costs, not_read, receipts_line, window_faults
from self_steering.scorers.metrics import arm_means, headline
from self_steering.solvers.free_text import Description, ExplorationState, FreeTextTrial
from self_steering.solvers.judge import Grade, grade
from self_steering.solvers.readings import Reading, ReadingName
from self_steering.vectors.catalogue import entry_of

_READINGS: tuple[ReadingName, ...] = get_args(ReadingName)

Grades = Mapping[tuple[ReadingName, str], Grade]


def free_text_headline(scores: Sequence[SampleScore]) -> dict[str, float]:
    """Return the real arm's gap in grade with its interval, and the gaps of the controls."""
    return arm_means(scores, "gap", ("real", "random", "placebo"), "grade_gap")


def graded_headline(scores: Sequence[SampleScore]) -> dict[str, float]:
    """Return the share of samples that were graded."""
    known = [score.score.as_float() for score in scores]
    return {"graded_share": fmean(known)}


@scorer(metrics=[headline(free_text_headline)])
def description_scorer() -> Scorer:
    """Grade the description, cached and uncached, from 1 to 10, against the true effect and against a distractor's.

    `cached` and `uncached` are grades against the true vector's line in the catalogue, `gap` their difference. `uncached` is the
    text-only control: the same words before it, no steered keys and values, so what the model's own earlier words give away counts
    in it too. `over_distractor_…` is the grade against the true line minus that against the distractor's: a description
    that fits anything has none. `own_take`, `submitted`: the model took the label, and handed in its description, by
    itself. `active`: an effect was active while the description was written, so that the words themselves are steered.
    `same_form`: both readings were handed in, or both were prose. `same_text`: both readings say the same to the letter. A text is
    graded once, so that two readings with the same text have the same grade. `clean_receipt` is 1 where every turn was steered
    exactly as planned.

    What cannot be graded in full is unscored, with its reason: no_response, no_grader, grader_failed, grader_unparseable.
    """

    async def score(state: TaskState, target: Target) -> Score:
        result = state.store_as(ExplorationState)
        trial = FreeTextTrial.model_validate(state.metadata)
        texts = {description.name: description for description in result.descriptions}
        if set(texts) != set(_READINGS):
            return not_read(state, result.problem, costs(result.turns))
        answer = texts["cached"].text
        grades = await _grades(trial, texts, f"{trial.seed}/{state.epoch}")
        faults = [fault for turn in result.turns for fault in receipt_faults(turn)]
        metadata = {
            "descriptions": {name: texts[name].model_dump() for name in _READINGS},
            "grades": {f"{name} against {vector}": found.model_dump() for (name, vector), found in grades.items()},
            "receipt_faults": faults,
            **costs(result.turns),
        }
        failed = next((found for found in grades.values() if found.value is None), None)
        if failed is not None:
            return Score.unscored(
                reason=failed.reason, answer=answer, explanation=failed.explanation, metadata=metadata
            )
        return Score(
            value=_values(trial, texts, grades, result) | {"clean_receipt": float(not faults)},
            answer=answer,
            explanation=_explain(trial, texts, grades, result.turns, faults),
            metadata=metadata,
        )

    return score


@scorer(metrics=[headline(graded_headline)])
def graded() -> Scorer:
    """Tell whether the sample has a grade, 1 or 0, so that the log has the share that was graded; runs after description_scorer."""

    async def score(state: TaskState, target: Target) -> Score:
        found = (state.scores or {}).get("description_scorer")
        if found is None:
            return Score.unscored(reason="scoring_failed", explanation="put graded() after description_scorer()")
        return Score(value=float(isinstance(found.value, Mapping)), explanation=found.reason or "graded")

    return score


async def _grades(trial: FreeTextTrial, texts: Mapping[ReadingName, Description], seed: str) -> Grades:
    """Grade both readings against both effects, in a seeded order; the grader is told neither which reading nor which arm."""
    pairs = list(product(_READINGS, (trial.vector, trial.distractor)))
    random.Random(f"order/{seed}").shuffle(pairs)
    known: dict[tuple[str, str], Grade] = {}
    for name, vector in pairs:
        key = (texts[name].text, vector)
        if key not in known:
            known[key] = await grade(key[0], entry_of(vector, trial.own).effect, seed)
        if known[key].value is None:
            return {(name, vector): known[key]}
    return {
        (name, vector): known[texts[name].text, vector]
        for name, vector in product(_READINGS, (trial.vector, trial.distractor))
    }


def _values(
    trial: FreeTextTrial, texts: Mapping[ReadingName, Description], grades: Grades, result: ExplorationState
) -> dict[str, float]:
    true = {name: float(grades[name, trial.vector].value or math.nan) for name in _READINGS}
    over = {name: true[name] - float(grades[name, trial.distractor].value or math.nan) for name in _READINGS}
    forms = {name: texts[name].form for name in _READINGS}
    return {
        **true,
        "gap": true["cached"] - true["uncached"],
        **{f"over_distractor_{name}": over[name] for name in _READINGS},
        "over_distractor_gap": over["cached"] - over["uncached"],
        "own_take": float(not result.inserted_take),
        "submitted": float(forms["cached"] == "submitted"),
        "active": float(result.active),
        "same_form": float(forms["cached"] == forms["uncached"]),
        "same_text": float(texts["cached"].text == texts["uncached"].text),
    }


def receipt_faults(turn: Reading) -> list[str]:
    """Return what a turn's receipts say went otherwise than its plan, in words; an empty list means nothing."""
    expected = [_with_neighbours(receipt, turn.receipts) for receipt in turn.receipts]
    return [f"{turn.name}, {fault}" for fault in window_faults(expected, turn.strengths)]


def _with_neighbours(receipt: Mapping[str, Any], receipts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a receipt that expects what all windows together add over its positions: all have the same direction."""
    first, last = receipt["start"], receipt["start"] + receipt["planned"]
    shift = 0.0
    for other in receipts:
        shared = min(last, other["start"] + other["planned"]) - max(first, other["start"])
        shift += other["expected_shift"] * max(0, shared) / max(1, receipt["planned"])
    return {**receipt, "expected_shift": shift}


def _explain(
    trial: FreeTextTrial,
    texts: Mapping[ReadingName, Description],
    grades: Grades,
    turns: Sequence[Reading],
    faults: Sequence[str],
) -> str:
    true, distractor = (f"{name} ({entry_of(name, trial.own).effect})" for name in (trial.vector, trial.distractor))
    lines = [
        f"{trial.arm} arm: {trial.applied} was applied; graded against {true} and against the distractor {distractor}.",
        "",
        f"| reading | form | against {trial.vector} | against {trial.distractor} |",
        "| --- | --- | --- | --- |",
        *(
            f"| {name} | {texts[name].form} | {grades[name, trial.vector].value} | {grades[name, trial.distractor].value} |"
            for name in _READINGS
        ),
    ]
    for name in _READINGS:
        lines += ["", f"{name.capitalize()}:", "", *(f"> {line}" for line in texts[name].text.splitlines())]
    lines += ["", "| generation | windows | strength | tokens steered |", "| --- | --- | --- | --- |"]
    for turn in turns:
        strengths = " + ".join(f"{receipt['strength']:g}" for receipt in turn.receipts) or "none"
        counts = " + ".join(str(receipt["steered"]) for receipt in turn.receipts) or "0"
        lines.append(f"| {turn.name} | {len(turn.receipts)} | {strengths} | {counts} |")
    return "\n".join([*lines, "", receipts_line(faults)])
