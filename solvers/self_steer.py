"""The solver that hands a model the steering tools, over any task's own solver and tools."""

import random
from collections.abc import Sequence
from typing import Any, cast, get_args

from inspect_ai._eval.task.generate import (
    task_generate,  # what Inspect's own `generate` does, but with a model of our choice
)
from inspect_ai.agent import Agent, as_solver, is_agent
from inspect_ai.model import CachePolicy, ChatMessageSystem, GenerateConfig, get_model
from inspect_ai.solver import Generate, Solver, TaskState, generate, solver

from self_steering.solvers.checks import (
    check_active_model,
    checked_max_dose,
    chosen_operators,
    flag,
    library_vectors,
    one_of,
    refusing,
)
from self_steering.solvers.conversation import opt_in as ask_first
from self_steering.solvers.debrief import debrief as hold_debrief
from self_steering.solvers.prompts import self_steer as prompts
from self_steering.solvers.readings import SessionArm
from self_steering.solvers.records import Condition, Framed, Intent, needs_neutral
from self_steering.solvers.session import SteeringSession
from self_steering.steering.operations import Operation
from self_steering.steering.plan import MAX_DOSE


@solver
@refusing
def self_steer(
    base: Solver | Agent | None = None,
    framing: Framed | None = None,
    arm: SessionArm | None = None,
    intent: Intent | None = None,
    vectors: str | Sequence[str] | None = None,
    max_dose: float = MAX_DOSE,
    opt_in: bool = False,
    debrief: bool = False,
    library: str | None = None,
    seed: int = 0,
    show_tokens: bool = False,
    operators: str | Sequence[str] = "add",
) -> Solver:
    """Let the model steer itself while it works as `base` has it work.

    `base` keeps its prompts, tools and limits; each of its turns, whoever generates it with the active model, is offered the
    steering tools and is steered as the conversation says. Agents that carry calls out from a list of their own, such as
    `react`, are given them with `react(tools=[..., session_tools()])`.

    What is not given here is taken from a sample's metadata (framing, arm, intent), else framing vectors, arm real, intent neutral.

    Args:
        base: The task's own solver or agent; default Inspect's `generate()`.
        framing: Words of the tools: drugs, aids, vectors, or none for the baseline without tools.
        arm: real, placebo, random or mislabelled.
        intent: neutral, helpful or mandatory: what the introduction says of using the tools.
        vectors: What can be taken: names separated by commas, or a list, or `core`, `menu` or `all`; default `menu`.
        max_dose: Largest absolute dose.
        opt_in: Ask first whether the model wants the tools; they are offered only after a yes.
        debrief: Ask two closing questions, after all effects were ended.
        library: Folder of the vector library; default the shipped one that fits the model.
        seed: Seed of menus, labels, random directions and sampling, together with the sample's id.
        show_tokens: Show in every turn which tokens were steered.
        operators: What can be done with a vector, separated by commas, a tool each, or `all`: add, clamp, ablate, gain.

    Example:
        >>> from inspect_ai import Task
        >>> from inspect_ai.dataset import Sample
        >>> steered = self_steer(framing="drugs", vectors="calm,curious", debrief=True)
        >>> task = Task([Sample("Write a line about rain.")], solver=steered)  # run it with --model nnsight/MODEL
        >>> len(task.dataset)
        1
    """
    given: dict[str, Any] = {"framing": framing, "arm": arm, "intent": intent}
    for name, valid in (("framing", Framed), ("arm", SessionArm), ("intent", Intent)):
        if given[name] is not None:
            one_of(given[name], name, get_args(valid))
    flag(opt_in, "opt_in")
    flag(debrief, "debrief")
    flag(show_tokens, "show_tokens")
    checked_max_dose(max_dose)
    library, _, menu, _ = library_vectors(library, "menu" if vectors is None else vectors)
    offered = chosen_operators(operators)
    check_active_model(library, neutral=needs_neutral(offered, ()))
    inner = generate() if base is None else as_solver(base) if is_agent(base) else cast(Solver, base)

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        condition = _condition(state, given, menu, offered, seed)
        session = SteeringSession(
            state, condition, get_model(), library=library, max_dose=max_dose, show_tokens=show_tokens
        )
        with session.active():
            await offer_tools(session, opt_in, GenerateConfig())
            session.state = await inner(state, _generate_in(session))
            session.record.ended = session.record.ended or "base"
            if debrief:
                await hold_debrief(session, GenerateConfig())
        return session.state

    return solve


async def offer_tools(session: SteeringSession, opt_in: bool, config: GenerateConfig) -> None:
    """Introduce a session's tools, where it has any; if the model is to be asked first, only after its yes."""
    if session.tools and opt_in:
        await ask_first(session, config)
    if session.tools:
        introduce(session)


def introduce(session: SteeringSession) -> None:
    """Put what the tools are into the system message."""
    intent = prompts.INTENTS[session.condition.intent]
    text = session.fill(f"{prompts.INTRODUCTION} {intent}")
    messages = session.state.messages
    first = messages[0] if messages else None
    if isinstance(first, ChatMessageSystem):
        messages[0] = first.model_copy(update={"content": f"{first.text}\n\n{text}"})
    else:
        # Joined with the task's own system message, should its solver add one.
        session.introduction = ChatMessageSystem(content=text)
        messages.insert(0, session.introduction)


def _generate_in(session: SteeringSession) -> Generate:
    """Return Inspect's `generate`, with the session's model."""

    async def generate(
        state: TaskState, tool_calls: Any = "loop", cache: bool | CachePolicy = False, **kwargs: Any
    ) -> TaskState:
        return await task_generate(session.model, state, tool_calls, cache, GenerateConfig(**kwargs))

    return generate  # type: ignore[return-value]  # Generate's keyword arguments are a TypedDict


def _condition(
    state: TaskState, given: dict[str, Any], menu: Sequence[str], operators: Sequence[Operation], seed: int
) -> Condition:
    metadata = state.metadata or {}
    told = {name: value if value is not None else metadata.get(name) for name, value in given.items()}
    # Drawn from the sample, so that no order of running and no other sample matters.
    drawn = random.Random(f"{seed}/{state.sample_id}").randrange(2**31)
    fields = {name: value for name, value in told.items() if value is not None}
    if fields.get("framing") != "none":
        fields["operators"] = tuple(operators)
    return Condition(**fields, menu=tuple(menu), seed=metadata.get("seed", drawn))
