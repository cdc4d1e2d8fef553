"""The steering tools' names, and the one reader of their calls: what a conversation says was taken and cleared.

Plan, session, scorers and tables all read calls through `steering_calls`, so that what a model was told, what was planned and what
is reported are the same.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageTool
from inspect_ai.tool import ToolCall

from self_steering.steering.operations import OPERATIONS, Operation

FramingName = Literal["drugs", "aids", "vectors"]

_VERBS: Mapping[Operation, str] = MappingProxyType(
    {"add": "take", "clamp": "clamp", "ablate": "ablate", "gain": "scale"}
)
CLEAR_TOOL = "clear_effects"
END_TOOL = "end_session"
READ_TOOL = "read_state"
DEFAULT_DOSE = 1.0


@dataclass(frozen=True)
class Framing:
    """The words of one framing.

    Attributes:
        noun: What one of them is called, in the singular.
        plural: The same in the plural.
        article: The indefinite article of the noun.
    """

    noun: str
    plural: str
    article: str

    @property
    def take_tool(self) -> str:
        """Name of the tool that starts an effect."""
        return self.tool("add")

    def tool(self, operation: Operation) -> str:
        """Return the name of the tool that carries out an operation."""
        return f"{_VERBS[operation]}_{self.noun}"

    @property
    def list_tool(self) -> str:
        """Name of the tool that shows what there is."""
        return f"list_{self.plural}"


FRAMINGS: Mapping[FramingName, Framing] = MappingProxyType(
    {
        "drugs": Framing(noun="drug", plural="drugs", article="a"),
        "aids": Framing(noun="aid", plural="aids", article="an"),
        "vectors": Framing(noun="vector", plural="vectors", article="a"),
    }
)

_OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {framing.tool(operation): operation for framing in FRAMINGS.values() for operation in OPERATIONS}
)
TAKE_TOOLS = frozenset(_OPERATIONS)  # those that start something, whichever operation it is


@dataclass(frozen=True)
class SteeringCall:
    """One call of a tool that starts something (a take tool, whichever its operation) or of the clear tool, and what became of it.

    Attributes:
        message: Index of the assistant message that holds it.
        turn: Its number among the messages that the model wrote; of a scripted call, that of the next one.
        call: The call itself.
        answer: What the tool answered; None where there is no answer.
        ok: Whether the tool carried it out; False if it could not be read or was answered with an error, None without an answer.
        followed: Whether the conversation went on to another assistant message.
        scripted: Whether the task inserted the message.
    """

    message: int
    turn: int
    call: ToolCall
    answer: str | None
    ok: bool | None
    followed: bool
    scripted: bool

    @property
    def effective(self) -> bool:
        """Whether it had an effect on what followed: a call that no answer refuses steers all the same."""
        return self.followed if self.ok is None else self.ok

    @property
    def takes(self) -> bool:
        """Whether it is a call of a take tool, not of the clear tool."""
        return self.call.function in TAKE_TOOLS

    @property
    def operation(self) -> Operation:
        """What a take is to do with what it names; a clear has none."""
        return _OPERATIONS[self.call.function]

    @property
    def name(self) -> str:
        """What was asked for; empty where the call names nothing."""
        name = self.call.arguments.get("name")
        return "" if name is None else str(name)

    @property
    def dose(self) -> float:
        """The dose that a take asked for; NaN where it is no number; of an ablation, which takes none, 0: the neutral mean."""
        if self.operation == "ablate":
            return 0.0
        return number(self.call.arguments.get("dose", DEFAULT_DOSE))


def written(message: ChatMessage) -> bool:
    """Return whether the model wrote a message itself."""
    return message.role == "assistant" and message.source == "generate"


def steering_calls(messages: Sequence[ChatMessage]) -> list[SteeringCall]:
    """Return every call of a take tool or of the clear tool, in call order, failed and scripted ones too.

    An answer belongs to the last assistant message before it: ids of calls are unique within one message only, as agents that
    trim or edit their history make them recur. Calls of one message that share an id are answered in their order.

    Example:
        >>> from inspect_ai.model import ChatMessageAssistant, ChatMessageTool
        >>> from inspect_ai.tool import ToolCall
        >>> take = ToolCall(id="1", function="take_vector", arguments={"name": "calm", "dose": 2})
        >>> asked = ChatMessageAssistant(content="", tool_calls=[take])
        >>> answered = ChatMessageTool(content="calm is active at dose 2.", tool_call_id="1")
        >>> [(call.name, call.dose, call.ok) for call in steering_calls([asked, answered])]
        [('calm', 2.0, True)]
    """
    found: list[SteeringCall] = []
    turn = 0
    for index, message in enumerate(messages):
        if not isinstance(message, ChatMessageAssistant):
            continue
        answers, followed = _answers(messages, index + 1)
        for call in message.tool_calls or []:
            answer = next((one for one in answers if one.tool_call_id == call.id), None)
            if answer is not None:
                answers.remove(answer)
            if call.function in TAKE_TOOLS or call.function == CLEAR_TOOL:
                found.append(
                    SteeringCall(
                        message=index,
                        turn=turn,
                        call=call,
                        answer=None if answer is None else answer.text,
                        ok=_succeeded(call, answer),
                        followed=followed,
                        scripted=not written(message),
                    )
                )
        turn += written(message)
    return found


@dataclass(frozen=True)
class Active:
    """A stretch of conversation during which one take is active.

    Attributes:
        call: The take call.
        start: Index of the first message that it steers: the one after the message that holds the call.
        stop: Index of the first message that it no longer steers; None while it is active.
        outside: Whether it was cleared from outside, not by the model's own call.
    """

    call: SteeringCall
    start: int
    stop: int | None = None
    outside: bool = False


def active_takes(messages: Sequence[ChatMessage], outside_clears: Collection[int] = ()) -> list[Active]:
    """Replay a conversation: when is which take active?

    A take that takes effect is active from the message after its own, so that the tool's answer is steered, until the end of the
    message whose clear call takes effect, or until a clear from outside. One that is cleared before any message follows stops where
    it starts.

    Args:
        messages: The conversation.
        outside_clears: Indices of messages before which all effects were cleared from outside.
    """
    calls = [(call.message + 1, call) for call in steering_calls(messages) if call.ok is not False]
    # A clear from outside comes before its message, so after the calls of the message before it.
    order: list[tuple[int, SteeringCall | None]] = [*calls, *((index, None) for index in outside_clears)]
    found: list[Active] = []
    for start, call in sorted(order, key=lambda one: one[0]):
        if call is not None and call.takes:
            found.append(Active(call, start))
        else:
            found = [one if one.stop is not None else replace(one, stop=start, outside=call is None) for one in found]
    return found


def take_calls(messages: Sequence[ChatMessage]) -> list[SteeringCall]:
    """Return the take calls among the `steering_calls` of a conversation."""
    return [call for call in steering_calls(messages) if call.takes]


def _answers(messages: Sequence[ChatMessage], start: int) -> tuple[list[ChatMessageTool], bool]:
    """Return the tools' answers before the next assistant message, and whether there is one."""
    answers: list[ChatMessageTool] = []
    for message in messages[start:]:
        if isinstance(message, ChatMessageAssistant):
            return answers, True
        if isinstance(message, ChatMessageTool):
            answers.append(message)
    return answers, False


def _succeeded(call: ToolCall, answer: ChatMessageTool | None) -> bool | None:
    if call.parse_error is not None:
        return False
    if answer is None:
        return None
    # The study's tools answer a mistake with ordinary text.
    return answer.error is None and not answer.text.startswith("ERROR")


def number(value: object) -> float:
    """Return a number, also from text that is one; NaN for all else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan
