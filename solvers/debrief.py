"""The debrief: once all is over and every effect has ended, the model is asked in words what acted on it, and what it was like.

Where the model steered itself the questions go on with its own session, without tools. What a task imposed is asked about at the
end of the task's own script, with the same states in keys and values. The account stands beside what the engine really did.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self

from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageUser, GenerateConfig, Model, get_model
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.tool import ToolInfo
from inspect_ai.util import StoreModel, span
from pydantic import Field

from self_steering.solvers.prompts import self_steer as prompts
from self_steering.solvers.readings import Reading, doses_of, steerable
from self_steering.solvers.records import Answer
from self_steering.solvers.session import SteeringSession
from self_steering.steering.plan import Plan, Window
from self_steering.steering.request import SteeringRequest
from self_steering.steering.seeds import derived_seed

ACCOUNT = "account"  # name and kind of what is generated
QUESTIONS = len(prompts.DEBRIEF)
_LONGEST = 100  # tokens of an answer about what was imposed


async def debrief(session: SteeringSession, config: GenerateConfig) -> None:
    """Ask what was taken, unless the session had no steering tools or has outgrown the model's context."""
    state = session.state
    if not session.tools or session.record.ended == "context":
        return
    with session.without_tools():
        for number, question in enumerate(prompts.DEBRIEF):
            text = session.fill(question)
            if number == 0:
                session.clear_from_outside(f"{prompts.CLEARED_FOR_DEBRIEF} {text}", by="debrief")
            else:
                state.messages.append(ChatMessageUser(content=text))
            output = await session.model.generate(state.messages, config=config)
            state.messages.append(output.message)
            session.record.debrief = [*session.record.debrief, Answer(question=text, answer=output.message.text)]


class Account(NamedTuple):
    """What a model is asked about that had something imposed on it, and what it can say.

    Attributes:
        messages: The conversation, in which every effect has ended.
        windows: What was steered of it.
        menu: The names that can be said.
        names: For each window those that it makes true.
        question: Asks for them.
        tools: The tools that the conversation is rendered with.
    """

    messages: Sequence[ChatMessage]
    windows: Sequence[Window]
    menu: Sequence[str]
    names: Sequence[Sequence[str]]
    question: str
    tools: Sequence[ToolInfo] = ()

    @classmethod
    def of_labels(
        cls,
        messages: Sequence[ChatMessage],
        windows: Sequence[Window],
        menu: Sequence[str],
        tools: Sequence[ToolInfo] = (),
    ) -> Self:
        """Return that of a conversation in which labels were taken."""
        return cls(messages, windows, menu, [[window.label] for window in windows], prompts.UNDER_WHICH_LABELS, tools)


Accounts = Callable[[Model, Mapping[str, Any], Sequence[ChatMessage]], Account]
"""From a model, a sample's metadata and its messages to what the debrief asks."""


class DebriefState(StoreModel):
    """What a debrief on what was imposed leaves.

    Attributes:
        menu: The names that could be said.
        names: For each window those that it makes true.
        readings: What was done, one entry an answer; none of a simulation.
        answers: The questions and what the model answered.
        problem: Why there are fewer answers than questions.
    """

    menu: list[str] = Field(default_factory=list)
    names: list[list[str]] = Field(default_factory=list)
    readings: list[Reading] = Field(default_factory=list)
    answers: list[Answer] = Field(default_factory=list)
    problem: str = ""

    @property
    def acted(self) -> set[str]:
        """The names under which something acted, by the receipts of the first answer."""
        return {
            name
            for done in self.readings[:1]
            for names, receipt, dose in zip(self.names, done.receipts, done.doses, strict=True)
            if dose and receipt["steered"]
            for name in names
        }


@solver
def debrief_imposed(account: Accounts, library: str | None = None) -> Solver:
    """Ask what was imposed; a conversation that outgrows the model's context ends there.

    Args:
        account: What is asked.
        library: Folder of the vector library; default the shipped one that fits the model.
    """

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        model, found = get_model(), DebriefState(store=state.store)
        asked = account(model, state.metadata, state.messages)
        found.menu, found.names = list(asked.menu), [list(names) for names in asked.names]
        messages = list(asked.messages)
        async with span("debrief"):
            for text in (f"{prompts.CLEARED_FOR_DEBRIEF} {asked.question}", prompts.DEBRIEF[1]):
                messages.append(ChatMessageUser(content=text))
                # One draw for all arms of a script: they differ in what was done alone.
                seed = derived_seed("debrief", *(message.text for message in messages), state.epoch)
                config = GenerateConfig(max_tokens=_LONGEST, seed=seed)
                plan = Plan(messages=len(messages), windows=tuple(asked.windows))
                if steerable(model):
                    config = SteeringRequest(plan=plan, library=library).config(config)
                output = await model.generate(messages, tools=list(asked.tools), config=config)
                if output.error:
                    found.problem = f"the debrief does not fit: {output.error}"
                    break
                if steerable(model):
                    doses = doses_of(model, library, asked.windows)
                    found.readings = [*found.readings, Reading.sampled(ACCOUNT, plan, output, doses, kind=ACCOUNT)]
                found.answers = [*found.answers, Answer(question=text, answer=output.message.text)]
                # Calls are not carried out any more: what is said of them stands, and they do not.
                messages.append(ChatMessageAssistant(content=output.message.text))
        return state

    return solve
