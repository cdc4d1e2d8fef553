"""What a chat template gets in place of what it cannot express: changes of a conversation, each for one want."""

import hashlib
import json
import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count, pairwise

from inspect_ai.tool import ToolCall

from self_steering.steering.template import Message
from self_steering.steering.tool_calls import call_json, call_text

_Change = Callable[[list[Message]], list[Message]]


@dataclass(frozen=True, eq=False)
class Remedy:
    """A change of what a template gets.

    Attributes:
        said: What is said of it in the log.
        change: From the messages to those that the template gets.
    """

    said: str
    change: _Change


def _written_out(message: Message, write: Callable[[ToolCall], str]) -> Message:
    """Return a message whose calls stand in its text."""
    calls = [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in message["tool_calls"]]
    texts = [write(ToolCall(id=i, function=function, arguments=arguments)) for i, function, arguments in calls]
    result = {key: value for key, value in message.items() if key != "tool_calls"}
    return {**result, "content": "\n".join(filter(None, [message["content"], *texts]))}


def _calls_in_text(messages: list[Message]) -> list[Message]:
    result = [_written_out(message, call_text) if "tool_calls" in message else message for message in messages]
    return [
        {"role": "user", "content": f"<tool_response>\n{message['content']}\n</tool_response>"}
        if message["role"] == "tool"
        else message
        for message in result
    ]


def _parallel_in_text(messages: list[Message]) -> list[Message]:
    return [_written_out(m, call_json) if len(m.get("tool_calls", ())) > 1 else m for m in messages]


def _one_call_each(messages: list[Message]) -> list[Message]:
    result: list[Message] = []
    for message in messages:
        first, *others = message.get("tool_calls") or [None]
        result.append({**message, "tool_calls": [first]} if others else message)
        result += [{"role": "assistant", "content": "", "tool_calls": [call]} for call in others]
    return result


def _with_ids(messages: list[Message], new_id: Callable[[str, str], str]) -> list[Message]:
    """Return the messages with other ids of calls, given the old one and the function's name."""
    result: list[Message] = []
    waiting: list[
        tuple[str, str]
    ] = []  # old and new ids of calls without an answer; they may recur, even within a message
    for message in messages:
        if "tool_calls" in message:
            waiting = [(call["id"], new_id(call["id"], call["function"]["name"])) for call in message["tool_calls"]]
            calls = [{**call, "id": new} for call, (_, new) in zip(message["tool_calls"], waiting, strict=True)]
            result.append({**message, "tool_calls": calls})
        elif message["role"] == "tool":
            old = message["tool_call_id"]
            found = next((ids for ids in waiting if ids[0] == old), None)
            if found is not None:
                waiting.remove(found)
            result.append({**message, "tool_call_id": new_id(old, message["name"]) if found is None else found[1]})
        else:
            result.append(message)
    return result


def _nine_letter_ids(messages: list[Message]) -> list[Message]:
    letters = string.ascii_letters + string.digits

    def nine(old: str, _name: str) -> str:
        if len(old) == 9 and set(old) <= set(letters):
            return old
        digest = int.from_bytes(hashlib.sha256(old.encode()).digest())
        return "".join(letters[digest // len(letters) ** place % len(letters)] for place in range(9))

    return _with_ids(messages, nine)


def _named_ids(messages: list[Message]) -> list[Message]:
    numbers = count()
    return _with_ids(messages, lambda _old, name: f"functions.{name}:{next(numbers)}")


def _arguments_in_text(messages: list[Message]) -> list[Message]:
    def in_text(call: Message) -> Message:
        arguments = json.dumps(call["function"]["arguments"], ensure_ascii=False)
        return {**call, "function": {**call["function"], "arguments": arguments}}

    return [{**m, "tool_calls": [in_text(c) for c in m["tool_calls"]]} if "tool_calls" in m else m for m in messages]


def _text_before_call(messages: list[Message]) -> list[Message]:
    result: list[Message] = []
    for message in messages:
        if "tool_calls" in message and message["content"]:
            result.append({key: value for key, value in message.items() if key != "tool_calls"})
            result.append({"role": "assistant", "content": "", "tool_calls": message["tool_calls"]})
        else:
            result.append(message)
    return result


def _text_in_thought(messages: list[Message]) -> list[Message]:
    def joined(message: Message) -> Message:
        thought = message.get("reasoning_content")
        if not (thought and message["content"] and "tool_calls" in message):
            return message
        return {**message, "content": "", "reasoning_content": f"{thought}\n{message['content']}"}

    return [joined(message) for message in messages]


def _later_system_by_user(messages: list[Message]) -> list[Message]:
    return [messages[0], *({**m, "role": "user"} if m["role"] == "system" else m for m in messages[1:])]


def _system_in_front(messages: list[Message]) -> list[Message]:
    first, *rest = messages
    if first["role"] != "system":
        return messages
    if rest and rest[0]["role"] == "user":
        return [{**rest[0], "content": f"{first['content']}\n\n{rest[0]['content']}"}, *rest[1:]]
    return [{"role": "user", "content": first["content"]}, *rest]


def _joined(messages: list[Message], role: str) -> list[Message]:
    """Return the messages with those of a role that follow each other made one."""
    result: list[Message] = []
    for message in messages:
        before = result[-1] if result else None
        if before is None or not before["role"] == message["role"] == role or "tool_calls" in before:
            result.append(message)
            continue
        texts = {
            key: "\n".join(filter(None, [before.get(key), message.get(key)]))
            for key in ("content", "reasoning_content")
        }
        result[-1] = {**message, **{key: text for key, text in texts.items() if text or key == "content"}}
    return result


def _joined_users(messages: list[Message]) -> list[Message]:
    return _joined(messages, "user")


def _joined_turns(messages: list[Message]) -> list[Message]:
    return _joined(messages, "assistant")


def _user_first(messages: list[Message]) -> list[Message]:
    lead = int(messages[0]["role"] == "system")
    empty = [{"role": "user", "content": ""}] if [m["role"] for m in messages[lead:]][:1] != ["user"] else []
    return [*messages[:lead], *empty, *messages[lead:]]


def _turn_after_answer(messages: list[Message]) -> list[Message]:
    result = messages[:1]
    for before, message in pairwise(messages):
        if (before["role"], message["role"]) == ("tool", "user"):
            result.append({"role": "assistant", "content": ""})
        result.append(message)
    return result


def _user_in_answer(messages: list[Message]) -> list[Message]:
    result: list[Message] = []
    for message in messages:
        if result and (result[-1]["role"], message["role"]) == ("tool", "user"):
            result[-1] = {**result[-1], "content": f"{result[-1]['content']}\n{message['content']}"}
        else:
            result.append(message)
    return result


def _filled(messages: list[Message], text: str) -> list[Message]:
    return [m if m["content"] or "tool_calls" in m else {**m, "content": text} for m in messages]


def _space_for_empty(messages: list[Message]) -> list[Message]:
    return _filled(messages, " ")


def _ellipsis_for_empty(messages: list[Message]) -> list[Message]:
    return _filled(messages, "…")


def _content_in_parts(messages: list[Message]) -> list[Message]:
    return [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]


CALLS_IN_TEXT = Remedy("calls and answers are written as text", _calls_in_text)
PARALLEL_IN_TEXT = Remedy("parallel calls are written as text", _parallel_in_text)
ONE_CALL_EACH = Remedy("each of parallel calls is a message", _one_call_each)
NINE_LETTER_IDS = Remedy("ids of calls are nine letters and digits", _nine_letter_ids)
NAMED_IDS = Remedy("ids of calls are the function's name and a number", _named_ids)
ARGUMENTS_IN_TEXT = Remedy("arguments are handed over as JSON text", _arguments_in_text)
TEXT_BEFORE_CALL = Remedy("text before a call is a message of its own", _text_before_call)
TEXT_IN_THOUGHT = Remedy("text before a call joins the thought before it", _text_in_thought)
LATER_SYSTEM_BY_USER = Remedy("a later system message is sent by the user", _later_system_by_user)
SYSTEM_IN_FRONT = Remedy("the system text stands in front of the first user message", _system_in_front)
JOINED_USERS = Remedy("user messages in a row are one", _joined_users)
JOINED_TURNS = Remedy("assistant messages in a row are one", _joined_turns)
USER_FIRST = Remedy("an empty user message stands before a first assistant message", _user_first)
TURN_AFTER_ANSWER = Remedy(
    "an empty assistant message stands between a tool's answer and a user message", _turn_after_answer
)
USER_IN_ANSWER = Remedy("a user message after a tool's answer is added to it", _user_in_answer)
SPACE_FOR_EMPTY = Remedy("empty messages are a space", _space_for_empty)
ELLIPSIS_FOR_EMPTY = Remedy("empty messages are an ellipsis", _ellipsis_for_empty)
CONTENT_IN_PARTS = Remedy("content is handed over as a list of parts", _content_in_parts)

_ORDER = (
    CALLS_IN_TEXT,
    PARALLEL_IN_TEXT,
    ONE_CALL_EACH,
    NINE_LETTER_IDS,
    NAMED_IDS,
    ARGUMENTS_IN_TEXT,
    TEXT_BEFORE_CALL,
    TEXT_IN_THOUGHT,
    LATER_SYSTEM_BY_USER,
    SYSTEM_IN_FRONT,
    JOINED_USERS,
    JOINED_TURNS,
    USER_FIRST,
    TURN_AFTER_ANSWER,
    USER_IN_ANSWER,
    SPACE_FOR_EMPTY,
    ELLIPSIS_FOR_EMPTY,
    CONTENT_IN_PARTS,
)
"""All, in the order in which they are made."""

TEXT_REMEDIES = frozenset({CALLS_IN_TEXT, PARALLEL_IN_TEXT})
"""Those that write calls as text; they keep number and order of the messages."""

CAUTIOUS = frozenset(
    {CALLS_IN_TEXT, LATER_SYSTEM_BY_USER, SYSTEM_IN_FRONT, JOINED_USERS, JOINED_TURNS, USER_FIRST, TEXT_IN_THOUGHT}
)
"""What leaves nothing but users and assistants that take turns: for a conversation that a template refuses all the same."""


def changed(messages: Sequence[Message], remedies: Iterable[Remedy]) -> list[Message]:
    """Return what a template gets in place of messages."""
    result = [*messages]
    for remedy in sorted(remedies, key=_ORDER.index):
        result = remedy.change(result)
    return result


def said_of(remedies: Iterable[Remedy]) -> str:
    """Return what is said of remedies in the log."""
    return "; ".join(remedy.said for remedy in sorted(remedies, key=_ORDER.index))
