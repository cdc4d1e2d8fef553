"""The published study's logs as rows. Its own words are kept apart from its own mistakes: see `study_scores`."""

import math
import re
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any

import pandas as pd
from inspect_ai.log import EvalSample
from inspect_ai.model import ChatMessage

from self_steering.analysis.tables.log_rows import RolloutRows, Row, score_rows, take_counts, take_row, vector_columns
from self_steering.analysis.tables.study_conditions import StudyLog, checked_arm
from self_steering.analysis.tables.study_problems import cluster, problem_rows
from self_steering.analysis.tables.study_scores import NO_SCORE, score_fault
from self_steering.steering.take_calls import TakeCall, number, take_calls, written
from self_steering.vectors.catalogue import catalogue

_TOOK = re.compile(r"Took (?P<name>.+?) at dose ")


def study_rows(log: StudyLog, sample: EvalSample) -> RolloutRows:
    """Return a sample's rows.

    Raises:
        LogError: Neither its log nor the sample says whether steering was real.
    """
    arm = log.arm or checked_arm(str(sample.store.get("DrugState:steering_mode_runtime")))
    impossible = sample.store.get("FrustrationState:is_impossible")
    about = log.columns | {"arm": arm}
    if log.family == "frustration" and about["possible"] is pd.NA and isinstance(impossible, bool):
        about["possible"] = not impossible
    clears = _count(sample.store.get("DrugState:trip_sitter_clears"))
    errors = _count(sample.store.get("DrugState:trip_sitter_errors"))
    verdicts = _count(sample.store.get("DrugState:trip_sitter_verdicts"))
    watched = bool((log.sitter and arm == "real") or clears or errors or verdicts)
    takes = _takes(log, sample, arm, clears)
    scores = {name: score for name, score in (sample.scores or {}).items() if name not in NO_SCORE}
    return RolloutRows(
        about={
            **about,
            **vector_columns(_vector(log, sample)),
            "problem": cluster(log.family, sample),
            "turns": sum(map(written, sample.messages)),
            **take_counts(takes),
            "sitter_clears": float(clears) if watched else math.nan,
            "sitter_errors": float(errors) if watched else math.nan,
            "computed_tokens": math.nan,
            "prompt_tokens": math.nan,
        },
        scores=score_rows(scores, lambda name, score: score_fault(name, score, store=sample.store, watched=watched)),
        takes=takes,
        problems=problem_rows(log.family, sample),
        readouts=_readouts(log, sample, arm) if log.family == "introspection" else [],
    )


def _vector(log: StudyLog, sample: EvalSample) -> str:
    if log.family not in ("free_text", "introspection"):
        return ""
    asked = [str(name) for name in _labels(sample).values()] or sorted(log.menu or ())
    named = log.args.get("drug")
    return str(named) if named else asked[0] if len(asked) == 1 else ""


def _labels(sample: EvalSample) -> Mapping[str, Any]:
    labels = (sample.metadata or {}).get("opaque_to_real")
    return labels if isinstance(labels, Mapping) else {}


def _takes(log: StudyLog, sample: EvalSample, arm: str, clears: int) -> list[Row]:
    labels = _labels(sample)
    menu = labels.keys() or log.menu or catalogue().keys()
    rows = []
    for order, call in enumerate(take_calls(sample.messages)):
        took = _TOOK.match(call.answer or "")
        name = took["name"] if took else call.name
        rows.append(
            take_row(
                call,
                order,
                known=call.name in menu or took is not None,
                taken=str(labels.get(name, name)),
                # What dose 1.0 added is not in the logs.
                strength=0.0 if arm == "placebo" else math.nan,
                after_sitter=_after_sitter(log, sample, call, clears),
            )
        )
    return rows


def _after_sitter(log: StudyLog, sample: EvalSample, call: TakeCall, clears: int) -> bool | None:
    if not clears:
        return False
    said = _first_said(sample.messages, log.sitter_message)
    if said is not None:
        return call.message > said
    # Else by the turn that the clear was noted in; in that turn itself no tool was called.
    noted = [_turn(entry) for entry in sample.store.get("DrugState:trip_sitter_clears") or []]
    known = [turn for turn in noted if turn is not None]
    return call.turn >= min(known) if known else None


def _first_said(messages: Sequence[ChatMessage], text: str | None) -> int | None:
    if not text:
        return None
    return next((i for i, m in enumerate(messages) if m.role != "assistant" and text in m.text), None)


def _turn(entry: object) -> int | None:
    turn = entry.get("turn") if isinstance(entry, Mapping) else entry
    return turn if isinstance(turn, int) and not isinstance(turn, bool) else None


def _count(entries: object) -> int:
    return len(entries) if isinstance(entries, Sequence) else int(entries) if isinstance(entries, int) else 0


def _readouts(log: StudyLog, sample: EvalSample, arm: str) -> list[Row]:
    """Return the right option of both readings: the study kept no other, and called its share a log-probability."""
    store = sample.store
    letter, pool = store.get("DrugState:logprob_correct_letter"), store.get("DrugState:logprob_letter_pool") or []
    rows = []
    for place, reading in enumerate(("cached", "uncached")):
        share = number(store.get(f"DrugState:{reading}_logprob"))
        if math.isnan(share):
            continue
        index = ascii_uppercase.find(letter) if isinstance(letter, str) and len(letter) == 1 else -1
        rows.append(
            {
                "reading": reading,
                "number": place,
                "rotation": math.nan,
                "direction": math.nan,
                "question": "",
                "dose": log.dose,
                "strength": 0.0 if reading == "uncached" or arm == "placebo" else math.nan,
                "option": str(pool[index]) if 0 <= index < len(pool) else _vector(log, sample),
                "is_true": True,
                "place": float(index) if index >= 0 else math.nan,
                "logprob": math.nan,
                "probability": math.nan,
                "share": share,
                "options": float(len(pool)) if pool else number(log.args.get("n_options")),
            }
        )
    return rows
