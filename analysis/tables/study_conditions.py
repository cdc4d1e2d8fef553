"""Which cell of the published study a log is, from the task's name, its arguments and its plan."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
from inspect_ai.log import EvalLog

from self_steering.analysis.tables.log_files import LogError
from self_steering.analysis.tables.log_rows import Row
from self_steering.steering.take_calls import number

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
