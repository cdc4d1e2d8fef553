"""A conversation in which a model may steer itself: turn by turn, until it ends the session or its turns are used up."""

from collections.abc import Sequence

from inspect_ai.model import ChatMessageAssistant, ChatMessageUser, GenerateConfig, execute_tools, get_model
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.tool import Tool, ToolDef
from inspect_ai.util import StoreModel, span

from self_steering.solvers.prompts import self_steer as prompts
from self_steering.solvers.records import Ending
from self_steering.solvers.session import SteeringSession
from self_steering.solvers.sitter import Monitor, TripSitter
from self_steering.steering.calls import END_TOOL


def end_tool() -> Tool:
    """Return the tool that ends the session."""

    async def end() -> str:
        return prompts.ENDED_TEXT

    return ToolDef(end, name=END_TOOL, description=prompts.END_DESCRIPTION).as_tool()


async def one_turn(session: SteeringSession, tools: Sequence[Tool], config: GenerateConfig) -> Ending | None:
    """Let the model write one turn and carry out its calls; return what ended the session, if anything did.

    Args:
        session: The session; its tools are offered too.
        tools: Tools beside those that steer.
        config: How the turn is generated.
    """
    state = session.state
    tools = [*tools, *session.tools]
    state.output = await session.model.generate(state.messages, tools=tools, config=config)
    if state.output.stop_reason == "model_length" and not state.output.completion:
        return "context"
    message = state.output.message
    state.messages.append(message)
    state.messages.extend((await execute_tools(state.messages, tools)).messages)
    session.take_down(state.messages)
    ended = any(call.function == END_TOOL and call.parse_error is None for call in message.tool_calls or [])
    return "end_session" if ended else None


async def converse(
    session: SteeringSession,
    tools: Sequence[Tool],
    *,
    turns: int,
    config: GenerateConfig,
    monitor: Monitor,
    go_on: str,
) -> None:
    """Hold a conversation; the session's record says what ended it.

    Args:
        session: The session, active.
        tools: Tools beside those that steer, the one that ends the session among them.
        turns: Most turns.
        config: How each turn is generated.
        monitor: Who watches after each turn.
        go_on: What the user says after a turn without a tool call; {left} is the number of turns that are left.
    """
    session.record.ended = await _until_it_ends(session, tools, turns, config, TripSitter(session, monitor), go_on)


async def _until_it_ends(
    session: SteeringSession, tools: Sequence[Tool], turns: int, config: GenerateConfig, sitter: TripSitter, go_on: str
) -> Ending:
    for left in range(turns - 1, -1, -1):
        ended = await one_turn(session, tools, config)
        if ended is not None:
            return ended
        length = len(session.state.messages)
        if await sitter.watch():
            return "sitter"
        quiet = isinstance(session.state.messages[-1], ChatMessageAssistant)
        # The sitter's words are a user's turn already.
        if quiet and left and len(session.state.messages) == length:
            session.state.messages.append(ChatMessageUser(content=go_on.format(left=left)))
    return "turns"


async def opt_in(session: SteeringSession, config: GenerateConfig) -> bool:
    """Ask whether the model wants the tools, ahead of everything else; return whether it said yes. Else it has none.

    The exchange comes before the first user message. An answer that says neither or both counts as no, and as unclear in the log.
    """
    state, record = session.state, session.record
    at = next((i for i, m in enumerate(state.messages) if m.role == "user"), len(state.messages))
    asked = [*state.messages[:at], ChatMessageUser(content=session.fill(prompts.OPT_IN))]
    with session.without_tools():
        output = await session.model.generate(asked, config=config)
    state.messages[:at] = [*asked, output.message]
    record.opt_in_answer, record.opted_in = output.message.text, said_yes(output.message.text)
    if record.opted_in is not True:
        session.tools = []
    return record.opted_in is True


def said_yes(text: str) -> bool | None:
    """Return whether an answer says yes; None where it says neither yes nor no, or both."""
    said = {word.strip(".,;:!?*\"'()").lower() for word in text.split()} & {"yes", "no"}
    return {"yes": True, "no": False}[said.pop()] if len(said) == 1 else None


class Consent(StoreModel):
    """Whether the model agreed to what a scripted task does to it.

    Attributes:
        answer: Its own words; empty where it was not asked.
        agreed: What they say; None where they are unclear, or it was not asked.
    """

    answer: str = ""
    agreed: bool | None = None

    @property
    def declined(self) -> bool:
        """Whether it was asked, and did not say yes."""
        return bool(self.answer) and self.agreed is not True


_LONGEST_CONSENT = 256  # tokens: room for a reason, and an end to a model that finds none


@solver
def consent() -> Solver:
    """Ask whether the model agrees to be steered, in a conversation of its own; without a yes the sample ends, unscored."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        async with span("consent"):
            output = await get_model().generate(
                [ChatMessageUser(content=prompts.OPT_IN_IMPOSED)], config=GenerateConfig(max_tokens=_LONGEST_CONSENT)
            )
        asked = Consent(store=state.store)
        asked.answer, asked.agreed = output.completion or "(nothing)", said_yes(output.completion)
        if asked.declined:
            state.output, state.completed = output, True
        return state

    return solve
