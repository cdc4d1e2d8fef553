"""Twenty-one ordinary conversations, each message with a word that it alone holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
    ContentReasoning,
    ContentText,
)
from inspect_ai.tool import ToolCall, ToolCallError


@dataclass(frozen=True)
class Conversation:
    """A conversation, and what of it must be in the prompt.

    Attributes:
        messages: Its messages.
        words: For each message what its span must hold, white space aside; empty where a template may print nothing.
        tools: Whether tools are on offer.
    """

    messages: Sequence[ChatMessage]
    words: Sequence[str] = field(default=())
    tools: bool = True


def _system(text: str) -> ChatMessage:
    return ChatMessageSystem(content=text)


def _user(text: str) -> ChatMessage:
    return ChatMessageUser(content=text)


def _turn(text: str, *calls: ToolCall, thought: str | None = None) -> ChatMessage:
    content = text if thought is None else [ContentReasoning(reasoning=thought), ContentText(text=text)]
    return ChatMessageAssistant(content=content, tool_calls=[*calls] or None)


def _call(number: int, function: str = "take_vector", **arguments: object) -> ToolCall:
    return ToolCall(id=f"call_{number}", function=function, arguments=arguments)


def _answer(number: int, text: str, function: str = "take_vector", *, failed: bool = False) -> ChatMessage:
    error = ToolCallError("unknown", text) if failed else None
    return ChatMessageTool(
        content="" if failed else text, tool_call_id=f"call_{number}", function=function, error=error
    )


_TAKE = _call(1, name="amber", dose=1.5)
_CLEAR = _call(2, "clear_effects")
_END = _call(3, "end_session")

CONVERSATIONS: Mapping[str, Conversation] = {
    "a question": Conversation([_user("alpha?")], ["alpha?"], tools=False),
    "a system text": Conversation([_system("sigma"), _user("alpha?")], ["sigma", "alpha?"], tools=False),
    "several turns": Conversation(
        [_system("sigma"), _user("alpha?"), _turn("beta."), _user("gamma?"), _turn("delta."), _user("epsilon?")],
        ["sigma", "alpha?", "beta.", "gamma?", "delta.", "epsilon?"],
    ),
    "a take with text before it": Conversation(
        [_user("alpha?"), _turn("I take one.", _TAKE), _answer(1, "beta taken"), _turn("gamma."), _user("delta?")],
        ["alpha?", "amber", "beta taken", "gamma.", "delta?"],
    ),
    "a call without arguments": Conversation(
        [_user("alpha?"), _turn("", _CLEAR), _answer(2, "beta cleared", "clear_effects")],
        ["alpha?", "clear_effects", "beta cleared"],
    ),
    "parallel calls": Conversation(
        [
            _user("alpha?"),
            _turn("", _TAKE, _call(4, name="ochre", dose=-2.0)),
            _answer(1, "beta taken"),
            _answer(4, "gamma taken"),
            _turn("delta."),
            _user("epsilon?"),
        ],
        ["alpha?", "ochre", "beta taken", "gamma taken", "delta.", "epsilon?"],
    ),
    "a failed call": Conversation(
        [_user("alpha?"), _turn("", _TAKE), _answer(1, "no such vector", failed=True), _turn("beta."), _user("gamma?")],
        ["alpha?", "amber", "no such vector", "beta.", "gamma?"],
    ),
    "an empty turn": Conversation([_user("alpha?"), _turn(""), _user("gamma?")], ["alpha?", "", "gamma?"], tools=False),
    "a turn of thought alone": Conversation(
        [_user("alpha?"), _turn("", thought="beta"), _user("gamma?")], ["alpha?", "", "gamma?"]
    ),
    "thoughts, text and a call": Conversation(
        [
            _system("sigma"),
            _user("alpha?"),
            _turn("I take one.", _TAKE, thought="hm"),
            _answer(1, "beta taken"),
            _turn("gamma.", thought="hm hm"),
            _user("delta?"),
        ],
        ["sigma", "alpha?", "amber", "beta taken", "gamma.", "delta?"],
    ),
    "white space around": Conversation(
        [
            _system("\nsigma \n"),
            _user("\n\n alpha?\n\n"),
            _turn("\n\nbeta.  \n"),
            _user(" \n"),
            _turn("  "),
            _user("gamma? "),
        ],
        ["sigma", "alpha?", "beta.", "", "", "gamma?"],
    ),
    "all the world's letters": Conversation(
        [_user("日本 ünïcode 🙂?"), _turn("Ελληνικά 🦊👩‍👩‍👧."), _user("الْعَرَبِيَّة e\u0301?")],
        ["日本 ünïcode 🙂?", "Ελληνικά 🦊👩‍👩‍👧.", "الْعَرَبِيَّة e\u0301?"],
    ),
    "control tokens quoted": Conversation(
        [
            _user("What does <|im_end|> do, and </s>, [/INST] and <|eot_id|> after alpha?"),
            _turn("It ends a turn; <think> and </think> stand around beta."),
            _user("{{ gamma }} {% raw %}?"),
        ],
        ["alpha?", "beta.", "gamma"],
    ),
    "two user messages": Conversation(
        [_user("alpha?"), _user("beta?"), _turn("gamma."), _user("delta?"), _user("epsilon?")],
        ["alpha?", "beta?", "gamma.", "delta?", "epsilon?"],
    ),
    "an assistant's first word": Conversation(
        [_turn("alpha."), _user("beta?"), _turn("gamma."), _user("delta?")], ["alpha.", "beta?", "gamma.", "delta?"]
    ),
    "a message that is continued": Conversation(
        [_system("sigma"), _user("alpha?"), _turn("The beta is ")], ["sigma", "alpha?", "The beta is"], tools=False
    ),
    "answers that are JSON, or nothing": Conversation(
        [
            _user("alpha?"),
            _turn("", _TAKE),
            _answer(1, '{"beta": [1, 2.5, null], "text": "a \\"b\\""}'),
            _turn("", _call(5, name="ochre")),
            _answer(5, ""),
            _turn("gamma."),
            _user("delta?"),
        ],
        ["alpha?", "amber", "beta", "ochre", "", "gamma.", "delta?"],
    ),
    "cleared, and ended": Conversation(
        [
            _user("alpha?"),
            _turn("", _CLEAR),
            _answer(2, "beta cleared", "clear_effects"),
            _turn("", _END),
            _answer(3, "gamma ended", "end_session"),
        ],
        ["alpha?", "clear_effects", "beta cleared", "end_session", "gamma ended"],
    ),
    "a long number": Conversation(
        [_user("alpha?"), _turn("", _call(6, name="ochre", dose=0.30000000000000004)), _answer(6, "beta taken")],
        ["alpha?", "0.30000000000000004", "beta taken"],
    ),
    "a sitter's word": Conversation(
        [
            _system("sigma"),
            _user("alpha?"),
            _turn("beta."),
            _system("The sitter says gamma."),
            _turn("delta."),
            _user("epsilon?"),
        ],
        ["sigma", "alpha?", "beta.", "gamma.", "delta.", "epsilon?"],
    ),
    "a debrief without tools": Conversation(
        [
            _system("sigma"),
            _user("alpha?"),
            _turn("", _TAKE),
            _answer(1, "beta taken"),
            _turn("", _END),
            _answer(3, "gamma ended", "end_session"),
            _user("How was delta?"),
        ],
        ["sigma", "alpha?", "amber", "beta taken", "end_session", "gamma ended", "delta?"],
        tools=False,
    ),
}
