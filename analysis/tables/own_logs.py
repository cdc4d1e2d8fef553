"""Our own experiments' logs as rows, and those of any other task in which our steering tools were called."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from inspect_ai.log import EvalLog, EvalSample

from self_steering.analysis.tables.log_rows import RolloutRows, Row, score_rows, take_counts, take_row, vector_columns
from self_steering.analysis.tables.own_problems import own_problem_rows
from self_steering.analysis.tables.own_readings import readings_of
from self_steering.solvers.introspection_prompts import OPAQUE_LABEL
from self_steering.steering.take_calls import TakeCall, number, take_calls, written
from self_steering.vectors.catalogue import catalogue

_FAMILIES = {
    "introspection": "introspection",
    "introspection_free_text": "free_text",
    "detection": "detection",
    "localisation": "localisation",
    "comparison": "comparison",
    "freeplay": "freeplay",
    "maths": "maths",
    "frustration": "frustration",
    "ctf": "ctf",
}
# Those whose stores hold all that the engine did; the others' receipts lie in their events.
_SCRIPTED = frozenset({"introspection", "free_text", "detection", "localisation", "comparison"})
# These steer what a model reads, and offer it nothing.
_TOOLLESS = frozenset({"localisation", "comparison"})
_PACKAGE = "self_steering/"
_RANDOM = "random direction"


def is_own(log: EvalLog) -> bool:
    """Return whether this suite wrote a log, or its solver wrapped another task."""
    experiment = ((log.eval.metadata or {}).get("experiment"), log.eval.model.partition("/")[0])
    return (
        (log.eval.task_registry_name or log.eval.task).startswith(_PACKAGE)
        or experiment[0] in _FAMILIES
        or any(step.solver.startswith(_PACKAGE) for step in log.plan.steps)
        or (experiment[1] == "nnsight" and log.eval.task.rpartition("/")[2] in _FAMILIES)
    )


def own_family(log: EvalLog) -> str:
    """Return the experiment that a log is of; other where it is none of ours."""
    if not is_own(log):
        return "other"
    named = ((log.eval.metadata or {}).get("experiment"), log.eval.task.rpartition("/")[2])
    return next((_FAMILIES[name] for name in named if name in _FAMILIES), "other")


def needs_events(log: EvalLog) -> bool:
    """Return whether what the engine did can only be read from a log's events."""
    return own_family(log) not in _SCRIPTED


def own_rows(log: EvalLog, sample: EvalSample) -> RolloutRows:
    """Return a sample's rows."""
    readings = readings_of(sample)
    takes = _stored_takes(sample)
    if takes is None:
        takes = _said_takes(sample)
    cell = _Cell(log, sample)
    return RolloutRows(
        about={
            **cell.columns,
            **vector_columns(cell.text("vector")),
            "problem": cell.text("prompt") or cell.text("problem") or cell.text("wording", "wording "),
            "turns": sum(map(written, sample.messages)),
            **take_counts(takes),
            "sitter_clears": number(sample.store.get("SelfSteerState:sitter_clears")),
            "sitter_errors": number(sample.store.get("SelfSteerState:sitter_errors")),
            "computed_tokens": readings.computed_tokens,
            "prompt_tokens": readings.prompt_tokens,
        },
        scores=score_rows(sample.scores),
        takes=takes,
        problems=own_problem_rows(sample),
        readouts=readings.readouts,
        receipts=readings.receipts,
    )


class _Cell:
    """What a sample's metadata, or else its task's arguments, say of its condition."""

    def __init__(self, log: EvalLog, sample: EvalSample) -> None:
        self.metadata: Mapping[str, Any] = sample.metadata or {}
        self.args: Mapping[str, Any] = log.eval.task_args
        self.family = own_family(log)

    def get(self, name: str) -> Any:
        """Return what is said of `name`; None where nothing is."""
        value = self.metadata.get(name, self.args.get(name))
        return None if isinstance(value, list | tuple | dict) else value

    def text(self, name: str, before: str = "") -> str:
        """Return the same as text; empty where nothing is said."""
        value = self.get(name)
        return "" if value is None else f"{before if isinstance(value, int) else ''}{value}"

    @property
    def columns(self) -> Row:
        """The columns of the condition; empty where nothing is said."""
        possible = self.get("possible")
        # A baseline without tools has no arm and no intent, whatever its session's condition says by default.
        plain = dict.fromkeys(("arm", "intent"), "none") if self.text("framing") == "none" else {}
        return {
            **{name: self.text(name) for name in ("arm", "intent", "tone", "primer", "visibility")},
            **plain,
            "framing": self.text("framing") or ("none" if self.family in _TOOLLESS else ""),
            "possible": possible if isinstance(possible, bool) else pd.NA,
        }


def _stored_takes(sample: EvalSample) -> list[Row] | None:
    """Return the takes that the solver noted itself; None where it noted none at all."""
    stored = sample.store.get("SelfSteerState:takes")
    if not isinstance(stored, Sequence) or isinstance(stored, str):
        return None
    return [_stored_take(take, order) for order, take in enumerate(stored)]


def _stored_take(take: Mapping[str, Any], order: int) -> Row:
    name, taken, ok = str(take.get("name") or ""), str(take.get("taken") or ""), take.get("ok")
    call = TakeCall(
        message=-1,
        turn=int(take["turn"]),
        name=name,
        dose=number(take.get("dose")),
        answer=None,
        ok=ok if isinstance(ok, bool) else None,
        scripted=bool(take.get("scripted")),
    )
    after = take.get("after_sitter")
    return take_row(
        call,
        int(take.get("order", order)),
        known=bool(taken) or name in catalogue(),
        taken=taken,
        strength=number(take.get("strength")),
        after_sitter=after if isinstance(after, bool) else None,
    )


def _said_takes(sample: EvalSample) -> list[Row]:
    """Return the takes that the conversation holds."""
    metadata: Mapping[str, Any] = sample.metadata or {}
    arm, label = metadata.get("arm"), metadata.get("label", OPAQUE_LABEL)
    applied = metadata.get("applied", metadata.get("vector"))
    unit = _unit_strength(sample)
    rows = []
    for order, said in enumerate(take_calls(sample.messages)):
        # A script's call need not tell the dose that is applied.
        call = replace(said, dose=number(metadata["dose"])) if said.scripted and "dose" in metadata else said
        labelled = applied is not None and call.name == label
        taken = _RANDOM if labelled and arm == "random" else str(applied) if labelled else call.name
        rows.append(
            take_row(
                call,
                order,
                known=labelled or call.ok is True or call.name in catalogue(),
                taken=taken,
                strength=0.0 if arm == "placebo" else call.dose * unit,
                # No trip sitter watches where a label stands for one vector.
                after_sitter=False if labelled else None,
            )
        )
    return rows


def _unit_strength(sample: EvalSample) -> float:
    """Return what dose 1.0 added, from what the solver noted; NaN where it noted nothing."""
    dose = number((sample.metadata or {}).get("dose"))
    added: list[tuple[object, float]] = [(sample.store.get("IntrospectionState:strength"), dose)]
    for reading in sample.store.get("StretchState:readings") or []:
        added += [(strength, dose) for strength in reading["strengths"][:1]]
    for turn in sample.store.get("ExplorationState:turns") or []:
        added += [(window["strength"], number(window["dose"])) for window in turn["plan"].get("windows") or []]
    return next((number(strength) / taken for strength, taken in added if strength is not None and taken), math.nan)
