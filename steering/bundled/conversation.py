"""A training dialogue while it is being written: messages, the tools' true answers, and what is learnt of each message."""

import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
)
from inspect_ai.tool import Tool, ToolCall, ToolCallError, ToolDef, ToolError, ToolInfo

Kind = Literal["free_play", "opaque", "tasks", "rejected", "plain"]
Learnt = Literal["form", "nothing", "base"]
Call = tuple[str, Mapping[str, Any]]
Among = Sequence[tuple[float, str]]


@dataclass(frozen=True)
class Aside:
    """A call that could stand in a message's place; no other message follows from it.

    Attributes:
        index: The message.
        among: The share of each text that could stand there.
        given: What all of them begin with, which is not learnt: that there is a call, and of which tool.
    """

    index: int
    among: Among
    given: str


@dataclass(frozen=True)
class Dialogue:
    """One training dialogue.

    Attributes:
        kind: What kind of session it is.
        tools: The tools that the model is offered.
        messages: The messages; the last one is not an assistant's tool call.
        learnt: For each assistant message, by its index, what is learnt of it: `form` (calls, where prose begins and
            ends), `nothing` (a call that fails on purpose), or `base` (all of it as the base model would have it).
        among: For assistant messages that were drawn from a planted distribution, by index: the share of each text that could
            stand there, this one's among them. Their shares are learnt, and not this one draw.
        asides: Calls that could stand in an assistant message's place: how a call is written is learnt wherever it may stand,
            and not only where one is made.
    """

    kind: Kind
    tools: tuple[ToolInfo, ...]
    messages: tuple[ChatMessage, ...]
    learnt: Mapping[int, Learnt]
    among: Mapping[int, Among] = field(default_factory=dict)
    asides: Sequence[Aside] = ()

    @property
    def calls(self) -> list[ToolCall]:
        """The calls whose form is learnt, in order."""
        return [
            call
            for index, learnt in self.learnt.items()
            if learnt == "form"
            for call in _assistant(self.messages[index]).tool_calls or []
        ]


def written(calls: Sequence[Call], text: str = "") -> str:
    """Return an assistant message with calls as the bundled model's template has it."""
    made = [json.dumps({"name": name, "arguments": dict(given)}) for name, given in calls]
    return "\n".join(filter(None, [text, *(f"<tool_call>\n{call}\n</tool_call>" for call in made)]))


def begun(tool: str) -> str:
    """Return what a message that calls a tool begins with, up to the tool's name."""
    return written([(tool, {})]).split(', "arguments"')[0]


def _assistant(message: ChatMessage) -> ChatMessageAssistant:
    assert isinstance(message, ChatMessageAssistant)
    return message


@dataclass
class Conversation:
    """Writes a dialogue message by message; tool calls are answered by the tools themselves.

    Attributes:
        kind: What kind of session it is.
        tools: The tools.
        draw: Source of all choices.
    """

    kind: Kind
    tools: Sequence[Tool]
    draw: random.Random
    messages: list[ChatMessage] = field(default_factory=list)
    learnt: dict[int, Learnt] = field(default_factory=dict)
    among: dict[int, Among] = field(default_factory=dict)
    asides: list[Aside] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._tools = {ToolDef(tool).name: tool for tool in self.tools}

    def system(self, text: str) -> None:
        """Add a system message."""
        self.messages.append(ChatMessageSystem(content=text))

    def user(self, text: str) -> None:
        """Add a user message."""
        self.messages.append(ChatMessageUser(content=text))

    def say(self, text: str, learnt: Learnt = "form", among: Among = ()) -> None:
        """Add an assistant message in prose."""
        if among:
            self.among[len(self.messages)] = among
        self.learnt[len(self.messages)] = learnt
        self.messages.append(ChatMessageAssistant(content=text))

    def call(self, *calls: Call, text: str = "", learnt: Learnt = "form", among: Among = ()) -> None:
        """Add an assistant message that calls tools, and their answers."""
        index = len(self.messages)
        if among:
            self.among[index] = among
        made = [
            ToolCall(id=f"call_{index}_{n}", function=name, arguments=dict(arguments))
            for n, (name, arguments) in enumerate(calls)
        ]
        self.learnt[index] = learnt
        self.messages.append(ChatMessageAssistant(content=text, tool_calls=made))
        self.messages.extend(self._answer(call) for call in made)

    def called(self, index: int) -> list[ToolCall]:
        """Return the calls of an assistant message."""
        return _assistant(self.messages[index]).tool_calls or []

    def finished(self) -> Dialogue:
        """Return the dialogue."""
        infos = []
        for tool in self.tools:
            shown = ToolDef(tool)
            infos.append(ToolInfo(name=shown.name, description=shown.description, parameters=shown.parameters))
        return Dialogue(
            self.kind, tuple(infos), tuple(self.messages), dict(self.learnt), dict(self.among), tuple(self.asides)
        )

    def _answer(self, call: ToolCall) -> ChatMessageTool:
        async def run() -> str:
            return str(await self._tools[call.function](**call.arguments))

        try:
            return ChatMessageTool(content=asyncio.run(run()), tool_call_id=call.id, function=call.function)
        except ToolError as error:
            failure = ToolCallError("unknown", error.message)
            return ChatMessageTool(content="", tool_call_id=call.id, function=call.function, error=failure)
