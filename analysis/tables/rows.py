"""What reading a sample comes to, whoever wrote it: its rows, its take calls, its scores."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from inspect_ai.scorer import CORRECT, INCORRECT, NOANSWER, PARTIAL, Score

from self_steering.steering.calls import SteeringCall, number
from self_steering.vectors.catalogue import VectorEntry, described

Row = dict[str, Any]
NOT_SCORED = "the scorer gave no figure"
_LONGEST_ANSWER = 500
_LETTERS = {CORRECT: 1.0, PARTIAL: 0.5, INCORRECT: 0.0}


@dataclass(frozen=True)
class RolloutRows:
    """What one sample gives.

    Attributes:
        about: Its row in `rollouts`, without `rollout` and the columns of its log.
        scores: Its rows in `scores`, without what `about` says; likewise the others.
        takes: In call order.
        problems: One row a problem that it was given.
        readouts: One row an option of a reading.
        receipts: One row a steered window.
    """

    about: Row
    scores: list[Row] = field(default_factory=list)
    takes: list[Row] = field(default_factory=list)
    problems: list[Row] = field(default_factory=list)
    readouts: list[Row] = field(default_factory=list)
    receipts: list[Row] = field(default_factory=list)


def take_row(
    call: SteeringCall,
    order: int,
    *,
    known: bool,
    taken: str,
    strength: float,
    after_sitter: bool | None,
    own: Mapping[str, Any] | None = None,
    name: str | None = None,
) -> Row:
    """Return a call's row in `takes`; what was taken by a call that failed is left out.

    Args:
        call: The call.
        order: Its number in the rollout.
        known: Whether its name can be taken.
        taken: What it applied.
        strength: How much of it.
        after_sitter: Whether the trip sitter had cleared effects before.
        own: What the library says of its vectors.
        name: The vector that its opaque label stands for; None where it was asked for by name.
    """
    effective = taken if call.ok else ""
    asked, label = (call.name, "") if name is None else (name, call.name)
    entry = described(effective, own) or described(asked, own)
    return {
        "turn": call.turn,
        "order": order,
        "name": asked,
        "label": label,
        "known": known,
        "taken": effective,
        "taken_category": entry.category if entry else "",
        "taken_valence": _valence(entry),
        "operation": call.operation,
        "dose": call.dose,
        "strength": strength if call.ok else math.nan,
        "ok": call.ok,
        "scripted": call.scripted,
        "after_sitter": after_sitter,
    }


def vector_columns(vector: str, own: Mapping[str, Any] | None = None) -> Row:
    """Return the columns that say what a rollout's vector is; empty for what neither its library nor the catalogue describes."""
    entry = described(vector, own)
    return {"vector": vector, "category": entry.category if entry else "", "valence": _valence(entry)}


def _valence(entry: VectorEntry | None) -> float:
    return math.nan if entry is None or entry.valence is None else float(entry.valence)


def take_counts(takes: Sequence[Row]) -> Row:
    """Return the columns of `rollouts` that count the take calls which the model made."""
    own = [take for take in takes if not take["scripted"]]
    return {"takes": len(own), "steered": any(take["ok"] is True for take in own)}


def score_rows(
    scores: Mapping[str, Score] | None,
    fault: Callable[[str, Score], str | None] = lambda _, score: score.reason,
    answer: Callable[[str, Score], str | None] = lambda _, score: score.answer,
) -> list[Row]:
    """Return the rows of a sample's scores, one a figure.

    Args:
        scores: The scores by scorer.
        fault: Says why a scorer's figure is none, or None where it is one.
        answer: Says what was answered.
    """
    rows = []
    for scorer, score in (scores or {}).items():
        reason, answered = fault(scorer, score), (answer(scorer, score) or "")[:_LONGEST_ANSWER]
        for name, value in _figures(score):
            figure = math.nan if reason else _figure(value)
            unscored = "" if not math.isnan(figure) else reason or _no_figure(value)
            row = {"scorer": scorer, "score": name, "value": figure, "reason": unscored, "answer": answered}
            rows.append(row)
    return rows


def _figures(score: Score) -> Iterable[tuple[str, object]]:
    if isinstance(score.value, Mapping):
        return score.value.items()
    if isinstance(score.value, Sequence) and not isinstance(score.value, str):
        return ((str(place), value) for place, value in enumerate(score.value))
    return [("value", score.value)]


def _figure(value: object) -> float:
    if isinstance(value, bool):
        return float(value)
    return _LETTERS[value] if isinstance(value, str) and value in _LETTERS else number(value)


def _no_figure(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NOT_SCORED
    return "no answer" if value == NOANSWER else f"the score {value!r} is no number"
