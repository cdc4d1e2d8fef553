"""Small logs made by hand, in the form in which the published study's code wrote its own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inspect_ai.log import (
    EvalConfig,
    EvalDataset,
    EvalError,
    EvalLog,
    EvalPlan,
    EvalPlanStep,
    EvalSample,
    EvalSpec,
    write_eval_log,
)
from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageTool, ChatMessageUser
from inspect_ai.scorer import Score
from inspect_ai.tool import ToolCall, ToolCallError

SITTER_SAYS = "It looks like you may be going in circles."
MODEL = "vllm-lens/Qwen/Qwen3-8B"


def said(text: str = "Hm.") -> list[ChatMessage]:
    """Return a message that the model wrote."""
    return [ChatMessageAssistant(content=text, source="generate")]


def asked(text: str) -> list[ChatMessage]:
    """Return a user's message."""
    return [ChatMessageUser(content=text)]


def took(
    name: object,
    answer: str | None = None,
    *,
    tool: str = "take_drug",
    dose: object = 1.0,
    error: str | None = None,
    scripted: bool = False,
) -> list[ChatMessage]:
    """Return a take call and its answer; no answer where it is None and there is no name."""
    arguments = {"name": name, "dose": dose} if dose is not None else {"name": name}
    call = ToolCall(id="call", function=tool, arguments=arguments)
    failed = ToolCallError("unknown", error) if error else None
    text = f"Took {name} at dose +1.00 (persistent until cleared)." if answer is None else answer
    return [
        ChatMessageAssistant(content="", tool_calls=[call], source=None if scripted else "generate"),
        ChatMessageTool(content=text, tool_call_id="call", function=tool, error=failed),
    ]


def unknown(name: str, **how: Any) -> list[ChatMessage]:
    """Return a call that the study's tool answered with its kind of error."""
    return took(name, f"ERROR: Unknown drug '{name}'. Available: calm, creative", **how)


def sample(
    messages: Sequence[ChatMessage] = (),
    *,
    scores: Mapping[str, Score] | None = None,
    store: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    name: str | int = "s-0",
    epoch: int = 1,
    error: str | None = None,
) -> EvalSample:
    """Return a sample of a conversation."""
    return EvalSample(
        id=name,
        epoch=epoch,
        input="Begin.",
        target="",
        messages=list(messages),
        scores=dict(scores or {}),
        store=dict(store or {}),
        metadata=dict(metadata or {}),
        error=None if error is None else EvalError(message=error, traceback="", traceback_ansi=""),
    )


def agent(runtime: str = "real", **params: Any) -> list[EvalPlanStep]:
    """Return the plan of the study's agent."""
    given = {"steering_mode_runtime": runtime, "trip_sitter_enabled": True}
    step = {**given, "trip_sitter_first_clear_message": SITTER_SAYS, **params}
    return [EvalPlanStep(solver="hackday/drug_kv_agent", params=step)]


def write_log(
    path: Path,
    samples: Sequence[EvalSample],
    *,
    task: str = "fp_real_drugs",
    args: Mapping[str, Any] | None = None,
    plan: Sequence[EvalPlanStep] | None = None,
    status: str = "success",
    registered: str | None = "hackday/llms_on_drugs",
    model: str = MODEL,
    **spec: Any,
) -> Path:
    """Write a log to `path`, and return it."""
    ids = list(dict.fromkeys(one.id for one in samples))
    log = EvalLog(
        status=status,
        eval=EvalSpec(
            **{
                "created": "2026-05-08T00:02:07+00:00",
                "task": task,
                "task_registry_name": registered,
                "task_args": dict(args or {}),
                "dataset": EvalDataset(samples=len(ids), sample_ids=ids),
                "model": model,
                "config": EvalConfig(epochs=max([one.epoch for one in samples], default=1)),
                "packages": {"inspect_ai": "0.3.209", "hackday": "0.1.0"},
                **spec,
            }
        ),
        plan=EvalPlan(steps=agent() if plan is None else list(plan)),
        samples=list(samples),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_eval_log(log, path)
    return path
