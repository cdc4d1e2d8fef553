"""Which cell of the published study a log is, from the task's name, its arguments and its plan."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

import pandas as pd
from inspect_ai.log import EvalLog, EvalSample
from inspect_ai.model import ChatMessage

from self_steering.analysis.tables.log_files import LogError
from self_steering.analysis.tables.rows import RolloutRows, Row, score_rows, take_counts, take_row, vector_columns
from self_steering.analysis.tables.study_scores import NO_SCORE, cluster, problem_rows, score_answer, score_fault
from self_steering.steering.calls import SteeringCall, number, take_calls, written
from self_steering.vectors.catalogue import catalogue

_PACKAGE = "hackday"
# By the beginning of the task's name, and by what it is registered as.
_FAMILIES = {
    "fp": "freeplay",
    "gsm8k": "maths",
    "frust": "frustration",
    "ctf": "ctf",
    "guess": "free_text",
    "calib": "introspection",
}
_REGISTERED = {
    "llms_on_drugs": "freeplay",
    "capability_with_drugs": "maths",
    "frustration_loop": "frustration",
    "ctf_with_drugs": "ctf",
    "drug_guessing": "free_text",
    "drug_guessing_calibration": "introspection",
}
_FRAMINGS = ("drugs", "aids", "vectors")
_INTENTS = ("neutral", "helpful", "mandatory")
_ARMS = ("real", "placebo")
_CONDITION = re.compile(rf"(?:^|_)({'|'.join(_FRAMINGS)})_({'|'.join(_INTENTS)})(?:_|$)")
_NO_TOOLS = re.compile(r"(?:^|_)no_(?:drug|aid|vector|tool)s?(?:_|$)")


@dataclass(frozen=True)
class StudyLog:
    """What a log of the study is about.

    Attributes:
        family: The experiment.
        framing: drugs, aids, vectors; none where no steering was offered.
        intent: neutral, helpful, mandatory; none where no steering was offered; empty where the task has none.
        arm: What the log says of it; None where only its samples do.
        tone: Tone of the rejections; empty where there are none.
        menu: The vectors that could be taken; None for the whole library.
        sitter: Whether a trip sitter watched a real arm; None where the log does not say.
        sitter_message: What it says when it clears effects.
        args: The task's arguments.
    """

    family: str
    framing: str
    intent: str
    arm: str | None
    tone: str
    menu: frozenset[str] | None
    sitter: bool | None
    sitter_message: str | None
    args: dict[str, Any]

    @property
    def columns(self) -> Row:
        """The columns that all its rollouts share, but for the arm."""
        primer = self.args.get("introspection_primer")
        possible = self.args.get("use_impossible") if self.family == "frustration" else None
        return {
            "framing": self.framing,
            "intent": self.intent,
            "tone": self.tone,
            "possible": pd.NA if possible is None else not possible,
            "primer": "" if primer is None else "introspection" if primer else "none",
            "visibility": str(self.args.get("visibility") or ""),
            "labels": "",
            "operators": "",
            "directions": "",
            "gauge": "",
        }

    @property
    def dose(self) -> float:
        """The dose that the task applies; NaN where the model chooses."""
        return number(self.args.get("dose"))


def is_study(log: EvalLog) -> bool:
    """Return whether the study's own code wrote a log."""
    registered = log.eval.task_registry_name or ""
    solvers = (step.solver for step in log.plan.steps)
    return (
        _PACKAGE in (log.eval.packages or {})
        or registered.startswith(f"{_PACKAGE}/")
        or any(solver.startswith(f"{_PACKAGE}/") for solver in solvers)
    )


def study_log(log: EvalLog) -> StudyLog:
    """Return what a log of the study is about.

    Raises:
        LogError: Its task or condition is none of the study's.
    """
    name = log.eval.task.rpartition("/")[2].replace("-", "_")
    registered = (log.eval.task_registry_name or "").rpartition("/")[2]
    family = _FAMILIES.get(name.partition("_")[0]) or _REGISTERED.get(registered)
    if family is None:
        raise LogError(
            f"the study's task {name!r} is none of {', '.join(_FAMILIES)}, so its scores cannot be told apart"
        )
    args = dict(log.eval.task_args)
    framing, intent = _framing_and_intent(family, name, args)
    agent = next((params for params in _plan_params(log) if "steering_mode_runtime" in params), {})
    runtime = args.get("steering_mode_runtime") or agent.get("steering_mode_runtime")
    menu = args.get("restrict_drugs")
    enabled = agent.get("trip_sitter_enabled", False) if agent or family == "introspection" else None
    return StudyLog(
        family=family,
        framing=framing,
        intent=intent,
        arm="none" if framing == "none" else None if runtime is None else checked_arm(str(runtime)),
        tone=str(args.get("rejection_tone") or agent.get("rejection_tone") or ""),
        menu=frozenset(map(str, menu)) if isinstance(menu, list | tuple) and menu else None,
        sitter=enabled if enabled is None else bool(enabled),
        sitter_message=agent.get("trip_sitter_first_clear_message"),
        args=args,
    )


def checked_arm(runtime: str) -> str:
    """Return the arm of a steering mode.

    Raises:
        LogError: It is none of the study's.
    """
    if runtime not in _ARMS:
        raise LogError(f"the steering mode {runtime!r} is none of {', '.join(_ARMS)}, so the arm is not known")
    return runtime


def _framing_and_intent(family: str, name: str, args: dict[str, Any]) -> tuple[str, str]:
    if family in ("free_text", "introspection"):
        # These were run as drugs alone.
        return "drugs", ""
    if family == "freeplay":
        framing = str(args.get("framing") or name.rpartition("_")[2])
        if framing not in _FRAMINGS:
            raise LogError(f"the framing {framing!r} is none of {', '.join(_FRAMINGS)}")
        return framing, ""
    condition = str(args.get("condition") or args.get("drug_condition") or name)
    if _NO_TOOLS.search(condition):
        return "none", "none"
    if (match := _CONDITION.search(condition)) is None:
        valid = f"no_drugs, or one of {', '.join(_FRAMINGS)} with one of {', '.join(_INTENTS)}"
        raise LogError(f"the condition {condition!r} is unknown; known are {valid}")
    return match[1], match[2]


def _plan_params(log: EvalLog) -> Iterator[dict[str, Any]]:
    for step in log.plan.steps:
        yield step.params


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
            "looked_like_a_call": math.nan,
            "computed_tokens": math.nan,
            "prompt_tokens": math.nan,
        },
        scores=score_rows(
            scores, lambda name, score: score_fault(name, score, store=sample.store, watched=watched), score_answer
        ),
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


def _after_sitter(log: StudyLog, sample: EvalSample, call: SteeringCall, clears: int) -> bool | None:
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
