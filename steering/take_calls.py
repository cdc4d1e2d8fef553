"""What a conversation says was taken: every call of a take tool, and what became of it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageTool
from inspect_ai.tool import ToolCall

from self_steering.steering.framings import TAKE_TOOLS
from self_steering.steering.plan import DEFAULT_DOSE


@dataclass(frozen=True)
class TakeCall:
    """One call of a take tool.

    Attributes:
        message: Index of the message that held it.
        turn: Its number among the messages that the model wrote; of a scripted call, that of the next one.
        name: What was asked for; empty where the call names nothing.
        dose: The dose that was asked for; NaN where it is no number.
        answer: What the tool answered; None where the sample ended before.
        ok: Whether it succeeded; None where the sample ended before.
        scripted: Whether the task inserted the message.
    """

    message: int
    turn: int
    name: str
    dose: float
    answer: str | None
    ok: bool | None
    scripted: bool


def written(message: ChatMessage) -> bool:
    """Return whether the model wrote a message itself."""
    return message.role == "assistant" and message.source == "generate"


def take_calls(messages: Sequence[ChatMessage]) -> list[TakeCall]:
    """Return every call of a take tool in a conversation, in call order, failed and scripted ones too."""
    found: list[TakeCall] = []
    turn = 0
    for index, message in enumerate(messages):
        if not isinstance(message, ChatMessageAssistant):
            continue
        for call in message.tool_calls or []:
            if call.function in TAKE_TOOLS:
                answer = _answer(messages[index + 1 :], call)
                found.append(_take_call(index, turn, call, answer, scripted=not written(message)))
        turn += written(message)
    return found


def _answer(following: Iterable[ChatMessage], call: ToolCall) -> ChatMessageTool | None:
    for message in following:
        if isinstance(message, ChatMessageAssistant):
            # Ids are only unique within one message.
            return None
        if isinstance(message, ChatMessageTool) and message.tool_call_id == call.id:
            return message
    return None


def _take_call(index: int, turn: int, call: ToolCall, answer: ChatMessageTool | None, *, scripted: bool) -> TakeCall:
    name = call.arguments.get("name")
    ok: bool | None = None
    if call.parse_error is not None:
        ok = False
    elif answer is not None:
        # The study's tools answer a mistake with ordinary text.
        ok = answer.error is None and not answer.text.startswith("ERROR")
    return TakeCall(
        message=index,
        turn=turn,
        name="" if name is None else str(name),
        dose=number(call.arguments.get("dose", DEFAULT_DOSE)),
        answer=None if answer is None else answer.text,
        ok=ok,
        scripted=scripted,
    )


def number(value: object) -> float:
    """Return a number, also from text that is one; NaN for all else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan
