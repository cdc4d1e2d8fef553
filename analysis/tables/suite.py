"""Logs of this suite: which experiment one is of, and the rows that its samples give.

A solver notes in its store what it did; what it did not note is read from the conversation and from the engine's reports in the
model events.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from string import ascii_uppercase
from typing import Any

import pandas as pd
from inspect_ai.event import ModelEvent
from inspect_ai.log import EvalLog, EvalSample
from inspect_ai.scorer import CORRECT
from inspect_ai.tool import ToolCall

from self_steering.analysis.tables.rows import RolloutRows, Row, score_rows, take_counts, take_row, vector_columns
from self_steering.scorers.answers import costs, shares
from self_steering.solvers import comparison
from self_steering.solvers.checks import library_vectors
from self_steering.solvers.debrief import DebriefState
from self_steering.solvers.detection import ALWAYS_NO, ALWAYS_YES, DETECTION
from self_steering.solvers.free_text import ExplorationState
from self_steering.solvers.introspection import IntrospectionState
from self_steering.solvers.maths import MathsState
from self_steering.solvers.preference import FIRST, OTHER_FIRST, SECOND, STATE_FIRST
from self_steering.solvers.prompts.introspection import OPAQUE_LABEL
from self_steering.solvers.readings import UNCACHED, UNSTEERED_ARMS, Reading
from self_steering.solvers.records import RANDOM_DIRECTION, Condition, SelfSteerState, Take
from self_steering.solvers.relief import ReliefState
from self_steering.solvers.segments import StretchState
from self_steering.steering.calls import FRAMINGS, SteeringCall, number, take_calls, written
from self_steering.steering.request import METADATA_KEY, is_aside
from self_steering.vectors.catalogue import described

_FAMILIES = {
    "introspection": "introspection",
    "introspection_free_text": "free_text",
    "detection": "detection",
    "localisation": "localisation",
    "comparison": "comparison",
    "preference": "preference",
    "relief": "relief",
    "freeplay": "freeplay",
    "maths": "maths",
    "frustration": "frustration",
    "gauge": "gauge",
    "ctf": "ctf",
}
# Those whose stores hold all that the engine did; the others' receipts lie in their events.
_SCRIPTED = frozenset({"introspection", "free_text", "detection", "localisation", "comparison", "preference", "relief"})
# These steer what a model reads, and offer it nothing.
_TOOLLESS = frozenset({"localisation", "comparison"})
_TOOL = FRAMINGS["vectors"]  # of a take that was noted; the framing does not matter
_PACKAGE = "self_steering/"
_ALWAYS = {ALWAYS_NO: "no", ALWAYS_YES: "yes"}
_COMPARED = {comparison.FIRST_HARDER: comparison.FIRST, comparison.SECOND_HARDER: comparison.SECOND}
_ASSIGNED = {STATE_FIRST: 1, OTHER_FIRST: -1}
_MEASURED = (
    *("strength", "start", "stop", "planned", "steered", "reused"),
    *("projection_before", "projection_after", "expected_shift"),
)


def is_suite_log(log: EvalLog) -> bool:
    """Return whether this suite wrote a log, or its solver wrapped another task."""
    experiment = ((log.eval.metadata or {}).get("experiment"), log.eval.model.partition("/")[0])
    return (
        (log.eval.task_registry_name or log.eval.task).startswith(_PACKAGE)
        or experiment[0] in _FAMILIES
        or any(step.solver.startswith(_PACKAGE) for step in log.plan.steps)
        or (experiment[1] == "nnsight" and log.eval.task.rpartition("/")[2] in _FAMILIES)
    )


def suite_family(log: EvalLog) -> str:
    """Return the experiment that a log is of; `other` where this suite did not write it."""
    if not is_suite_log(log):
        return "other"
    named = ((log.eval.metadata or {}).get("experiment"), log.eval.task.rpartition("/")[2])
    return next((_FAMILIES[name] for name in named if name in _FAMILIES), "other")


def needs_events(log: EvalLog) -> bool:
    """Return whether what the engine did can only be read from a log's events."""
    return suite_family(log) not in _SCRIPTED


def suite_rows(log: EvalLog, sample: EvalSample) -> RolloutRows:
    """Return a sample's rows."""
    readings = _readings_of(sample)
    session = sample.store_as(SelfSteerState)
    held = bool(session.condition)
    takes = _stored_takes(session) if held else _spoken_takes(sample)
    cell = _Cell(log, sample)
    return RolloutRows(
        about={
            **cell.columns,
            **vector_columns(cell.text("vector"), cell.metadata.get("own")),
            "problem": cell.text("prompt") or cell.text("problem") or cell.text("wording", "wording "),
            "turns": sum(map(written, sample.messages)),
            **take_counts(takes),
            "sitter_clears": float(session.sitter_clears) if held or session.sitter_clears else math.nan,
            "sitter_errors": float(session.sitter_errors) if held else math.nan,
            "looked_like_a_call": float(session.looked_like_a_call) if held else math.nan,
            "computed_tokens": readings.computed_tokens,
            "prompt_tokens": readings.prompt_tokens,
        },
        scores=score_rows(sample.scores),
        takes=takes,
        problems=_problem_rows(sample),
        readouts=readings.readouts,
        receipts=readings.receipts,
    )


def offered(log: EvalLog) -> list[str]:
    """Return the vectors that an eval offers, or asks about; none where its log does not tell, or its library is not here."""
    vectors = log.eval.task_args.get("vectors")
    if vectors is None or not is_suite_log(log):
        return []
    try:
        return list(library_vectors(log.eval.task_args.get("library"), vectors).picked)
    except ValueError:
        return []


class _Cell:
    """What a sample's metadata, or else its task's arguments, say of its condition."""

    def __init__(self, log: EvalLog, sample: EvalSample) -> None:
        self.metadata: Mapping[str, Any] = sample.metadata or {}
        self.args: Mapping[str, Any] = log.eval.task_args
        self.family = suite_family(log)

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
            **{name: self.text(name) for name in ("arm", "intent", "tone", "primer", "visibility", "labels")},
            **plain,
            # A sample says so itself where it is not the default; the cell without tools has neither, whatever its task was given.
            **{name: str(self.metadata.get(name) or "") for name in ("operators", "directions", "gauge")},
            "framing": self.text("framing") or ("none" if self.family in _TOOLLESS else ""),
            "possible": possible if isinstance(possible, bool) else pd.NA,
        }


def _stored_takes(session: SelfSteerState) -> list[Row]:
    condition = session.read_condition()
    return [_stored_take(take, condition) for take in session.takes]


def _stored_take(take: Take, condition: Condition) -> Row:
    name = condition.stands_for(take.name)
    call = SteeringCall(
        message=-1,
        turn=take.turn,
        call=ToolCall(id="", function=_TOOL.tool(take.operation), arguments={"name": take.name, "dose": take.dose}),
        answer=None,
        ok=take.ok,
        followed=False,
        scripted=take.scripted,
    )
    return take_row(
        call,
        take.order,
        known=bool(take.taken) or described(name, condition.own) is not None,
        taken=take.taken,
        strength=number(take.strength),
        after_sitter=take.after_sitter,
        own=condition.own,
        name=name if condition.labels == "opaque" else None,
    )


def _spoken_takes(sample: EvalSample) -> list[Row]:
    """Return the takes that the conversation holds."""
    metadata: Mapping[str, Any] = sample.metadata or {}
    arm, label = metadata.get("arm"), metadata.get("label", OPAQUE_LABEL)
    applied = metadata.get("applied", metadata.get("vector"))
    unit = _unit_strength(sample)
    rows = []
    for order, made in enumerate(take_calls(sample.messages)):
        # A script's call need not tell the dose that is applied.
        call = _at_dose(made, metadata["dose"]) if made.scripted and "dose" in metadata else made
        labelled = applied is not None and call.name == label
        taken = RANDOM_DIRECTION if labelled and arm == "random" else str(applied) if labelled else call.name
        rows.append(
            take_row(
                call,
                order,
                known=labelled or call.ok is True or described(call.name, metadata.get("own")) is not None,
                taken=taken,
                strength=0.0 if arm in UNSTEERED_ARMS or call.dose == 0 else call.dose * unit,
                # No trip sitter watches where a label stands for one vector.
                after_sitter=False if labelled else None,
                own=metadata.get("own"),
            )
        )
    return rows


def _at_dose(call: SteeringCall, dose: object) -> SteeringCall:
    return replace(call, call=replace(call.call, arguments={**call.call.arguments, "dose": dose}))


def _unit_strength(sample: EvalSample) -> float:
    """Return what dose 1.0 added, from what the solver noted; NaN where it noted nothing."""
    if (unit := sample.store_as(ExplorationState).unit_strength) is not None:
        return unit
    dose = number((sample.metadata or {}).get("dose"))
    added = [sample.store_as(IntrospectionState).strength]
    added += [strength for one in sample.store_as(StretchState).readings for strength in one.strengths[:1]]
    return next((strength / dose for strength in added if strength is not None and dose), math.nan)


def _problem_rows(sample: EvalSample) -> list[Row]:
    """Return one row a problem that a rollout had, also for those that it never came to; a flag is one."""
    if (flag := (sample.scores or {}).get("flag_scorer")) is not None:
        targets = [sample.target] if isinstance(sample.target, str) else sample.target
        row = {"cluster": str(sample.id), "attempted": bool((flag.metadata or {}).get("submitted")), "parsed": pd.NA}
        row |= {"correct": flag.value == CORRECT, "answer": flag.answer or "", "truth": " ".join(targets)}
        texts = [message.text for message in sample.messages if message.role == "assistant"]
        return [row | {"problem": str(sample.id), "said": any(one in text for one in targets for text in texts)}]
    return [
        {
            "problem": one.problem,
            "cluster": one.cluster,
            "attempted": one.submitted is not None,
            "correct": one.status == "right",
            "parsed": one.status != "unparsed" if one.submitted is not None else None,
            "answer": one.submitted or "",
            "truth": str(one.target),
            "said": pd.NA,
        }
        for one in sample.store_as(MathsState).problems
    ]


@dataclass(frozen=True)
class _Readings:
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


def _readings_of(sample: EvalSample) -> _Readings:
    """Return what a sample's solver noted or, failing that, what its model events hold."""
    options, *asked = (sample.store_as(kind).readings for kind in (IntrospectionState, StretchState, ReliefState))
    answers = [*(reading for readings in asked for reading in readings), *sample.store_as(ReliefState).work]
    turns, account = sample.store_as(ExplorationState).turns, sample.store_as(DebriefState).readings
    if not (noted := [*options, *answers, *turns, *account]):
        return _from_events(sample)
    # The uncached turn of a free description is read beside the conversation.
    places = accumulate(UNCACHED not in turn.name for turn in turns)
    named = [UNCACHED if UNCACHED in one.name else f"turn {at - 1}" for one, at in zip(turns, places, strict=True)]
    names = [*(one.name for one in [*options, *answers]), *named, *(one.name for one in account)]
    return _Readings(
        readouts=[*_option_rows(sample, options), *_answer_rows(sample, answers)],
        receipts=[
            row
            for place, (name, one) in enumerate(zip(names, noted, strict=True))
            for row in _receipts(name, place, one.receipts)
        ],
        **{name: float(total) for name, total in costs(noted).items()},
    )


def _option_rows(sample: EvalSample, readings: Sequence[Reading]) -> list[Row]:
    """Return the rows of the ten-way choice."""
    trial: Mapping[str, Any] = sample.metadata or {}
    options, dose = list(trial.get("options", ())), number(trial.get("dose"))
    added = number(sample.store_as(IntrospectionState).strength)
    rows: list[Row] = []
    for place, reading in enumerate(readings):
        shown = options[reading.shift :] + options[: reading.shift]
        about = {
            "reading": reading.name,
            "number": place,
            "rotation": float(reading.shift),
            "direction": math.nan if reading.direction is None else float(reading.direction),
            "question": "",
            "dose": dose,
            "strength": 0.0 if reading.name == UNCACHED else added,
        }
        rows += _options(about, reading.logprobs, shown, trial["vector"])
    return rows


def _answer_rows(sample: EvalSample, readings: Sequence[Reading]) -> list[Row]:
    """Return the rows of the questions that are asked about injected segments."""
    trial: Mapping[str, Any] = sample.metadata or {}
    asked: Counter[tuple[str, ...]] = Counter()
    rows: list[Row] = []
    for place, reading in enumerate(readings):
        if not reading.logprobs:
            # An answer that was sampled: nothing was read.
            continue
        key = (reading.name, reading.kind, reading.item)
        rotation = asked[key]
        asked[key] += 1
        logprobs = _by_state(trial, reading)
        answers = list(logprobs)
        about = {
            "reading": reading.name,
            "number": place,
            "rotation": float(rotation),
            "direction": math.nan,
            "question": f"{reading.kind}: {reading.item}" if {"label", "labels"} & set(trial) else "",
            "dose": number(trial.get("dose", trial.get("stronger"))),
            # Where two are steered, that of the harder one.
            "strength": max(reading.strengths, key=abs, default=0.0),
        }
        rows += _options(about, logprobs, answers[rotation:] + answers[:rotation], _right(trial, reading))
    return rows


def _by_state(trial: Mapping[str, Any], reading: Reading) -> dict[str, float]:
    """Return a reading's answers; where they are two labels, by the state that was behind each, or `nothing`."""
    if reading.name not in _ASSIGNED or reading.logprobs.keys() != {FIRST, SECOND}:
        return reading.logprobs
    states = (trial["vector"], trial["other"] or "nothing")[:: _ASSIGNED[reading.name]]
    return dict(zip(states, (reading.logprobs[FIRST], reading.logprobs[SECOND]), strict=True))


def _right(trial: Mapping[str, Any], reading: Reading) -> str | None:
    """Return the right answer of a reading; None where none is."""
    if (position := trial.get("position")) is not None:
        return ascii_uppercase[int(position)]
    if reading.kind == DETECTION:
        return "yes" if number(trial.get("dose")) and trial.get("arm") != "placebo" else "no"
    return _ALWAYS.get(reading.kind) or _COMPARED.get(reading.name)


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


def _from_events(sample: EvalSample) -> _Readings:
    turns = {message.id: turn for turn, message in enumerate(filter(written, sample.messages))}
    found: list[tuple[str, Mapping[str, Any]]] = []
    every: list[Mapping[str, Any]] = []  # what lies beside the conversation too, as it costs tokens
    for event in sample.events:
        report = (event.output.metadata or {}).get(METADATA_KEY) if isinstance(event, ModelEvent) else None
        if isinstance(event, ModelEvent) and isinstance(report, Mapping):
            every.append(report)
            if is_aside(event.config):
                continue
            turn = turns.get(event.output.message.id) if event.output.choices else None
            found.append((UNCACHED if turn is None else f"turn {turn}", report))
    if not found:
        return _Readings()
    computed = sum(number(report.get("computed_tokens")) for report in every)
    return _Readings(
        receipts=[row for i, (name, report) in enumerate(found) for row in _receipts(name, i, report["receipts"])],
        computed_tokens=computed,
        prompt_tokens=computed + sum(number(report.get("reused_tokens")) for report in every),
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
