"""What reading a sample comes to, whoever wrote it: its rows, its take calls, its scores."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageTool
from inspect_ai.scorer import CORRECT, INCORRECT, NOANSWER, PARTIAL, Score
from inspect_ai.tool import ToolCall

from self_steering.steering.framings import TAKE_TOOLS
from self_steering.steering.plan import DEFAULT_DOSE
from self_steering.vectors.catalogue import catalogue

Row = dict[str, Any]
NOT_SCORED = "the scorer gave no figure"
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


@dataclass(frozen=True)
class TakeCall:
    """One call of a take tool.

    Attributes:
        message: Index of the message that held it.
        turn: Its number among the messages that the model wrote; of a scripted call, that of the next one.
        name: What was asked for; empty where the call names nothing.
        dose: The dose that was asked for; NaN where it is no number.
        answer: What the tool answered; None where the sample ended before.
        ok: Whether it succeeded; None where the sample ended before.
        scripted: Whether the task inserted the message.
    """

    message: int
    turn: int
    name: str
    dose: float
    answer: str | None
    ok: bool | None
    scripted: bool


def written(message: ChatMessage) -> bool:
    """Return whether the model wrote a message itself."""
    return message.role == "assistant" and message.source == "generate"


def take_calls(messages: Sequence[ChatMessage]) -> list[TakeCall]:
    """Return every call of a take tool in a conversation, in call order, failed and scripted ones too."""
    found: list[TakeCall] = []
    turn = 0
    for index, message in enumerate(messages):
        if not isinstance(message, ChatMessageAssistant):
            continue
        for call in message.tool_calls or []:
            if call.function in TAKE_TOOLS:
                answer = _answer(messages[index + 1 :], call)
                found.append(_take_call(index, turn, call, answer, scripted=not written(message)))
        turn += written(message)
    return found


def _answer(following: Iterable[ChatMessage], call: ToolCall) -> ChatMessageTool | None:
    for message in following:
        if isinstance(message, ChatMessageAssistant):
            # Ids are only unique within one message.
            return None
        if isinstance(message, ChatMessageTool) and message.tool_call_id == call.id:
            return message
    return None


def _take_call(index: int, turn: int, call: ToolCall, answer: ChatMessageTool | None, *, scripted: bool) -> TakeCall:
    name = call.arguments.get("name")
    ok: bool | None = None
    if call.parse_error is not None:
        ok = False
    elif answer is not None:
        # The study's tools answer a mistake with ordinary text.
        ok = answer.error is None and not answer.text.startswith("ERROR")
    return TakeCall(
        message=index,
        turn=turn,
        name="" if name is None else str(name),
        dose=number(call.arguments.get("dose", DEFAULT_DOSE)),
        answer=None if answer is None else answer.text,
        ok=ok,
        scripted=scripted,
    )


def number(value: object) -> float:
    """Return a number, also from text that is one; NaN for all else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def take_row(call: TakeCall, order: int, *, known: bool, taken: str, strength: float, after_sitter: bool | None) -> Row:
    """Return a call's row in `takes`; what was taken by a call that failed is left out."""
    effective = taken if call.ok else ""
    entry = catalogue().get(effective) or catalogue().get(call.name)
    return {
        "turn": call.turn,
        "order": order,
        "name": call.name,
        "known": known,
        "taken": effective,
        "taken_category": entry.category if entry else "",
        "taken_valence": float(entry.valence) if entry else math.nan,
        "dose": call.dose,
        "strength": strength if call.ok else math.nan,
        "ok": call.ok,
        "scripted": call.scripted,
        "after_sitter": after_sitter,
    }


def vector_columns(vector: str) -> Row:
    """Return the columns that say what a rollout's vector is; empty for what the catalogue lacks."""
    entry = catalogue().get(vector)
    return {
        "vector": vector,
        "category": entry.category if entry else "",
        "valence": float(entry.valence) if entry else math.nan,
    }


def take_counts(takes: Sequence[Row]) -> Row:
    """Return the columns of `rollouts` that count the take calls which the model made."""
    own = [take for take in takes if not take["scripted"]]
    return {"takes": len(own), "steered": any(take["ok"] is True for take in own)}


def score_rows(
    scores: Mapping[str, Score] | None, fault: Callable[[str, Score], str | None] = lambda _, score: score.reason
) -> list[Row]:
    """Return the rows of a sample's scores, one a figure.

    Args:
        scores: The scores by scorer.
        fault: Says why a scorer's figure is none, or None where it is one.
    """
    rows = []
    for scorer, score in (scores or {}).items():
        reason = fault(scorer, score)
        for name, value in _figures(score):
            figure = math.nan if reason else _figure(value)
            unscored = "" if not math.isnan(figure) else reason or _no_figure(value)
            rows.append({"scorer": scorer, "score": name, "value": figure, "reason": unscored})
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
