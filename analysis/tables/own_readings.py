"""What the engine did and what was read from it, as rows, from the stores and the events of our own experiments."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import Any

import pandas as pd
from inspect_ai.event import ModelEvent
from inspect_ai.log import EvalSample

from self_steering.analysis.tables.log_rows import Row
from self_steering.scorers.answers import shares
from self_steering.steering.request import METADATA_KEY
from self_steering.steering.take_calls import number, written

_DETECTION, _ALWAYS = "detection", {"always no": "no", "always yes": "yes"}
_COMPARED = {"first harder": "first", "second harder": "second"}
_UNCACHED = "uncached"
_MEASURED = (
    "strength",
    "start",
    "stop",
    "planned",
    "steered",
    "reused",
    "projection_before",
    "projection_after",
    "expected_shift",
)


@dataclass(frozen=True)
class Readings:
    """What was read in one sample.

    Attributes:
        readouts: Rows of `readouts`.
        receipts: Rows of `receipts`.
        computed_tokens: Tokens that were computed; NaN where the log does not say.
        prompt_tokens: Tokens that computing every prompt alone would take; NaN likewise.
    """

    readouts: list[Row] = field(default_factory=list)
    receipts: list[Row] = field(default_factory=list)
    computed_tokens: float = math.nan
    prompt_tokens: float = math.nan


def readings_of(sample: EvalSample) -> Readings:
    """Return what a sample's solver noted or, failing that, what its model events hold."""
    for key, rows in (("IntrospectionState", _option_rows), ("StretchState", _answer_rows)):
        if readings := sample.store.get(f"{key}:readings"):
            return Readings(
                readouts=rows(sample, readings),
                receipts=[
                    row
                    for i, one in enumerate(readings)
                    for row in _receipts(one["name"], i, one.get("receipts") or [])
                ],
                computed_tokens=_sum(readings, "cost", "computed_tokens"),
                prompt_tokens=_sum(readings, "cost", "prompt_tokens"),
            )
    if turns := sample.store.get("ExplorationState:turns"):
        return _exploration(turns)
    return _from_events(sample)


def _option_rows(sample: EvalSample, readings: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return the rows of the ten-way choice."""
    trial: Mapping[str, Any] = sample.metadata or {}
    options, dose = list(trial["options"]), number(trial.get("dose"))
    added = number(sample.store.get("IntrospectionState:strength"))
    rows: list[Row] = []
    for place, reading in enumerate(readings):
        shift = int(reading["shift"])
        shown = options[shift:] + options[:shift]
        direction = reading.get("direction")
        about = {
            "reading": reading["name"],
            "number": place,
            "rotation": float(shift),
            "direction": math.nan if direction is None else float(direction),
            "question": "",
            "dose": dose,
            "strength": 0.0 if reading["name"] == _UNCACHED else added,
        }
        rows += _options(about, reading["logprobs"], shown, trial["vector"])
    return rows


def _answer_rows(sample: EvalSample, readings: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return the rows of the questions that are asked about steered stretches."""
    trial: Mapping[str, Any] = sample.metadata or {}
    asked: Counter[tuple[str, ...]] = Counter()
    rows: list[Row] = []
    for place, reading in enumerate(readings):
        if not reading["logprobs"]:
            # An answer that was sampled: nothing was read.
            continue
        key = (reading["name"], reading["kind"], reading["item"])
        rotation = asked[key]
        asked[key] += 1
        answers = list(reading["logprobs"])
        strengths = [number(strength) for strength in reading["strengths"]]
        about = {
            "reading": reading["name"],
            "number": place,
            "rotation": float(rotation),
            "direction": math.nan,
            "question": f"{reading['kind']}: {reading['item']}" if "label" in trial else "",
            "dose": number(trial.get("dose", trial.get("stronger"))),
            # Where two are steered, that of the harder one.
            "strength": max(strengths, key=abs, default=0.0),
        }
        rows += _options(about, reading["logprobs"], answers[rotation:] + answers[:rotation], _right(trial, reading))
    return rows


def _right(trial: Mapping[str, Any], reading: Mapping[str, Any]) -> str | None:
    """Return the right answer of a reading; None where none is."""
    if (position := trial.get("position")) is not None:
        return ascii_uppercase[int(position)]
    if reading["kind"] == _DETECTION:
        return "yes" if number(trial.get("dose")) and trial.get("arm") != "placebo" else "no"
    return _ALWAYS.get(reading["kind"]) or _COMPARED.get(reading["name"])


def _options(about: Row, logprobs: Mapping[str, float], shown: Sequence[str], right: str | None) -> Iterator[Row]:
    share = shares(logprobs)
    for option, logprob in logprobs.items():
        yield about | {
            "option": option,
            "is_true": pd.NA if right is None else option == right,
            "place": float(shown.index(option)),
            "logprob": logprob,
            "probability": math.exp(logprob),
            "share": share[option],
            "options": float(len(logprobs)),
        }


def _exploration(turns: Sequence[Mapping[str, Any]]) -> Readings:
    """Return the receipts of the free-text experiment, whose uncached turn is read beside the conversation."""
    rows: list[Row] = []
    said = 0
    for place, turn in enumerate(turns):
        aside = _UNCACHED in turn["name"]
        rows += _receipts(_UNCACHED if aside else f"turn {said}", place, turn["receipts"])
        said += not aside
    return Readings(
        receipts=rows,
        computed_tokens=float(sum(turn["computed_tokens"] for turn in turns)),
        prompt_tokens=float(sum(turn["prompt_tokens"] for turn in turns)),
    )


def _from_events(sample: EvalSample) -> Readings:
    turns = {message.id: turn for turn, message in enumerate(filter(written, sample.messages))}
    found: list[tuple[str, Mapping[str, Any]]] = []
    for event in sample.events:
        report = (event.output.metadata or {}).get(METADATA_KEY) if isinstance(event, ModelEvent) else None
        if isinstance(event, ModelEvent) and isinstance(report, Mapping):
            turn = turns.get(event.output.message.id) if event.output.choices else None
            found.append((_UNCACHED if turn is None else f"turn {turn}", report))
    if not found:
        return Readings()
    computed = sum(number(report.get("computed_tokens")) for _, report in found)
    return Readings(
        receipts=[row for i, (name, report) in enumerate(found) for row in _receipts(name, i, report["receipts"])],
        computed_tokens=computed,
        prompt_tokens=computed + sum(number(report.get("reused_tokens")) for _, report in found),
    )


def _receipts(reading: str, place: int, receipts: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    for receipt in receipts:
        yield {
            "reading": reading,
            "number": place,
            "label": receipt.get("label", ""),
            "direction_key": receipt.get("direction", ""),
            "layers": " ".join(map(str, receipt.get("layers", ()))),
            **{name: number(receipt.get(name)) for name in _MEASURED},
        }


def _sum(entries: Sequence[Mapping[str, Any]], group: str, name: str) -> float:
    return sum(number((entry.get(group) or {}).get(name)) for entry in entries)
