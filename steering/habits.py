"""What a chat template can express, found by trying it once at load, and what it gets in place of the rest.

Templates refuse, drop or move what is ordinary in a study: two user messages in a row, a system text, an empty turn, a call beside
text. Each such habit is found by rendering a small conversation and looking for its words. Where they are not there, the messages
that the template gets are changed by the first remedy that brings them back, and from then on always by the same.
"""

import hashlib
import json
import string
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, pairwise

from inspect_ai.tool import ToolCall
from transformers import PreTrainedTokenizerBase

from self_steering.steering.template import (
    ChatTemplate,
    Message,
    answered,
    between,
    called,
    in_order,
    said,
)
from self_steering.steering.thinking import ThoughtMarks, find_thought_marks
from self_steering.steering.tool_calls import PROBE_TOOL, call_json, call_text, tool_schema

Change = Callable[[list[Message]], list[Message]]


@dataclass(frozen=True, eq=False)
class Remedy:
    """A change of what a template gets in place of what it cannot express.

    Attributes:
        said: What is said of it in the log.
        change: From the messages to those that the template gets.
    """

    said: str
    change: Change


_ORDER: list[Remedy] = []
"""All, in the order in which they are made: that in which they stand below."""


def _remedy(change: Change) -> Remedy:
    """Make a remedy of a function whose docstring says what it does."""
    text = (change.__doc__ or "").rstrip(".")
    _ORDER.append(Remedy(text[0].lower() + text[1:], change))
    return _ORDER[-1]


def _written_out(message: Message, write: Callable[[ToolCall], str]) -> Message:
    """Return a message whose calls stand in its text."""
    calls = [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in message["tool_calls"]]
    texts = [write(ToolCall(id=i, function=function, arguments=arguments)) for i, function, arguments in calls]
    result = {key: value for key, value in message.items() if key != "tool_calls"}
    return {**result, "content": "\n".join(filter(None, [message["content"], *texts]))}


@_remedy
def calls_in_text(messages: list[Message]) -> list[Message]:
    """Calls and answers are written as text."""
    result = [_written_out(message, call_text) if "tool_calls" in message else message for message in messages]
    return [
        {"role": "user", "content": f"<tool_response>\n{message['content']}\n</tool_response>"}
        if message["role"] == "tool"
        else message
        for message in result
    ]


@_remedy
def parallel_in_text(messages: list[Message]) -> list[Message]:
    """Parallel calls are written as text."""
    return [_written_out(m, call_json) if len(m.get("tool_calls", ())) > 1 else m for m in messages]


@_remedy
def one_call_each(messages: list[Message]) -> list[Message]:
    """Each of parallel calls is a message."""
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


@_remedy
def nine_letter_ids(messages: list[Message]) -> list[Message]:
    """Ids of calls are nine letters and digits."""
    letters = string.ascii_letters + string.digits

    def nine(old: str, _name: str) -> str:
        if len(old) == 9 and set(old) <= set(letters):
            return old
        digest = int.from_bytes(hashlib.sha256(old.encode()).digest())
        return "".join(letters[digest // len(letters) ** place % len(letters)] for place in range(9))

    return _with_ids(messages, nine)


@_remedy
def named_ids(messages: list[Message]) -> list[Message]:
    """Ids of calls are the function's name and a number."""
    numbers = count()
    return _with_ids(messages, lambda _old, name: f"functions.{name}:{next(numbers)}")


@_remedy
def arguments_in_text(messages: list[Message]) -> list[Message]:
    """Arguments are handed over as JSON text."""

    def in_text(call: Message) -> Message:
        arguments = json.dumps(call["function"]["arguments"], ensure_ascii=False)
        return {**call, "function": {**call["function"], "arguments": arguments}}

    return [{**m, "tool_calls": [in_text(c) for c in m["tool_calls"]]} if "tool_calls" in m else m for m in messages]


@_remedy
def text_before_call(messages: list[Message]) -> list[Message]:
    """Text before a call is a message of its own."""
    result: list[Message] = []
    for message in messages:
        if "tool_calls" in message and message["content"]:
            result.append({key: value for key, value in message.items() if key != "tool_calls"})
            result.append({"role": "assistant", "content": "", "tool_calls": message["tool_calls"]})
        else:
            result.append(message)
    return result


@_remedy
def text_in_thought(messages: list[Message]) -> list[Message]:
    """Text before a call joins the thought before it."""

    def joined(message: Message) -> Message:
        thought = message.get("reasoning_content")
        if not (thought and message["content"] and "tool_calls" in message):
            return message
        return {**message, "content": "", "reasoning_content": f"{thought}\n{message['content']}"}

    return [joined(message) for message in messages]


@_remedy
def later_system_by_user(messages: list[Message]) -> list[Message]:
    """A later system message is sent by the user."""
    return [messages[0], *({**m, "role": "user"} if m["role"] == "system" else m for m in messages[1:])]


@_remedy
def system_in_front(messages: list[Message]) -> list[Message]:
    """The system text stands in front of the first user message."""
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


@_remedy
def joined_users(messages: list[Message]) -> list[Message]:
    """User messages in a row are one."""
    return _joined(messages, "user")


@_remedy
def joined_turns(messages: list[Message]) -> list[Message]:
    """Assistant messages in a row are one."""
    return _joined(messages, "assistant")


@_remedy
def user_first(messages: list[Message]) -> list[Message]:
    """An empty user message stands before a first assistant message."""
    lead = int(messages[0]["role"] == "system")
    empty = [{"role": "user", "content": ""}] if [m["role"] for m in messages[lead:]][:1] != ["user"] else []
    return [*messages[:lead], *empty, *messages[lead:]]


@_remedy
def turn_after_answer(messages: list[Message]) -> list[Message]:
    """An empty assistant message stands between a tool's answer and a user message."""
    result = messages[:1]
    for before, message in pairwise(messages):
        if (before["role"], message["role"]) == ("tool", "user"):
            result.append({"role": "assistant", "content": ""})
        result.append(message)
    return result


@_remedy
def user_in_answer(messages: list[Message]) -> list[Message]:
    """A user message after a tool's answer is added to it."""
    result: list[Message] = []
    for message in messages:
        if result and (result[-1]["role"], message["role"]) == ("tool", "user"):
            result[-1] = {**result[-1], "content": f"{result[-1]['content']}\n{message['content']}"}
        else:
            result.append(message)
    return result


def _filled(messages: list[Message], text: str) -> list[Message]:
    return [m if m["content"] or "tool_calls" in m else {**m, "content": text} for m in messages]


@_remedy
def space_for_empty(messages: list[Message]) -> list[Message]:
    """Empty messages are a space."""
    return _filled(messages, " ")


@_remedy
def ellipsis_for_empty(messages: list[Message]) -> list[Message]:
    """Empty messages are an ellipsis."""
    return _filled(messages, "…")


@_remedy
def content_in_parts(messages: list[Message]) -> list[Message]:
    """Content is handed over as a list of parts."""
    return [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]


TEXT_REMEDIES = frozenset({calls_in_text, parallel_in_text})
"""Those that write calls as text; they keep number and order of the messages."""

CAUTIOUS = frozenset(
    {calls_in_text, later_system_by_user, system_in_front, joined_users, joined_turns, user_first, text_in_thought}
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


# ------------------------------------------------------------ what a template can express


@dataclass(frozen=True)
class _Probe:
    """A small conversation that a template must express.

    Attributes:
        messages: The conversation.
        holds: Tells by the text whether it does.
        remedies: What helps where it does not, the first that does being taken.
        unlike: A conversation whose text must be another.
    """

    messages: Sequence[Message]
    holds: Callable[[str], bool]
    remedies: Sequence[frozenset[Remedy]] = ()
    unlike: Sequence[Message] = ()


def _probes(*, offered: bool) -> Iterator[_Probe]:
    """Return the probes, each of which builds on the remedies of those before it."""
    a, b, c, d, e = ("worda", "wordb", "wordc", "wordd", "worde")

    def user(word: str) -> Message:
        return said("user", word)

    def turn(word: str) -> Message:
        return said("assistant", word)

    system = said("system", "wordsys")

    def words(messages: Sequence[Message], *remedies: Iterable[Remedy], unlike: Sequence[Message] = ()) -> _Probe:
        shown = [m["content"] for m in messages if m["content"]]
        return _Probe(messages, lambda text: in_order(text, *shown), [frozenset(r) for r in remedies], unlike)

    yield words([user(a), turn(b), user(c)], {content_in_parts})
    # Wherever it stands: some templates move it into the last user message.
    yield _Probe(
        [system, user(a), turn(b), user(c)],
        lambda text: in_order(text, a, b, c) and "wordsys" in text,
        [frozenset({system_in_front})],
    )
    for empty in ([user(a), turn(""), user(b)], [user(a), turn(b), user(""), turn(c)]):
        yield words(empty, {space_for_empty}, {ellipsis_for_empty})
    yield words([user(a), user(b), turn(c), user(d), user(e)], {joined_users})
    yield words([user(a), turn(b), turn(c), user(d)], {joined_turns})
    # Llama's templates take the first message for a user's, whoever wrote it.
    yield words([turn(a), user(b), turn(c), user(d)], {user_first}, unlike=[user(a), user(b), turn(c), user(d)])
    yield words([system, turn(a), user(b)], {user_first}, unlike=[system, user(a), user(b)])
    yield words(
        [user(a), turn(b), said("system", c), user(d)], {later_system_by_user}, {later_system_by_user, joined_users}
    )
    yield words(
        [system, user(a), said("system", b), turn(c), user(d)],
        {later_system_by_user},
        {later_system_by_user, joined_users},
    )

    ids = [frozenset[Remedy](), frozenset({nine_letter_ids}), frozenset({named_ids})]
    forms = [names | text for text in (frozenset[Remedy](), frozenset({arguments_in_text})) for names in ids]
    in_text = frozenset({calls_in_text})
    yield _Probe(
        [user(a), called("", b), answered(c, b), turn(d), user(e)],
        lambda text: in_order(text, a, b, c, d, e) and PROBE_TOOL.name in text[text.find(a) : text.find(c)],
        [*forms[1:], in_text, in_text | {joined_users}],
    )
    if offered:
        # Mistral's templates print it in a last message of the user's only, and with tools the last is often an answer.
        yield _Probe(
            [system, user(a), called("", b), answered(c, b)],
            lambda text: "wordsys" in text,
            [frozenset({system_in_front})],
        )
    yield _Probe(
        [user(a), called("", ""), answered(c, ""), turn(d)],
        lambda text: in_order(text, a, c, d) and PROBE_TOOL.name in text[text.find(a) : text.find(c)],
        [in_text],
    )
    # The text may be dropped, as Llama's templates do, but not stand behind the answer.
    yield _Probe(
        [user(a), called(b, c), answered(d, c), turn(e)],
        lambda text: in_order(text, a, c, d, e) and text.find(b) < text.find(c),
        [frozenset({text_before_call})],
    )
    yield _Probe(
        [user(a), called(b, c, reasoning_content="wordthought"), answered(d, c)],
        lambda text: in_order(text, a, c, d),
        [frozenset({text_in_thought})],
    )
    yield _Probe(
        [user(a), called("", b, c), answered(d, b), answered(e, c), turn("wordf")],
        lambda text: in_order(text, a, b, c, d, e, "wordf"),
        [frozenset({parallel_in_text}), frozenset({one_call_each}), in_text],
    )
    yield _Probe(
        [user(a), called("", b), answered(c, b), user(d)],
        lambda text: in_order(text, a, b, c, d),
        [frozenset({turn_after_answer}), frozenset({user_in_answer}), in_text],
    )
    yield _Probe(
        [user(a), called("", b), answered("", b), turn(d)],
        lambda text: in_order(text, a, b, d),
        [frozenset({space_for_empty}), frozenset({ellipsis_for_empty})],
    )


@dataclass(frozen=True)
class Habits:
    """How conversations are handed to a template.

    Attributes:
        tools: Whether the template prints the tools and the calls of them itself; else a prompt of ours does.
        offered: What is changed of a conversation in which tools are on offer.
        bare: What is changed of one without.
    """

    tools: bool
    offered: frozenset[Remedy]
    bare: frozenset[Remedy]


def find_habits(template: ChatTemplate) -> Habits:
    """Return how conversations are handed to a template."""
    schemas = [tool_schema(PROBE_TOOL)]
    offered, bare = _remedies(template, schemas), _remedies(template, [])
    lone = template.attempt(changed([said("user", "worda")], offered), schemas)
    if calls_in_text in offered or PROBE_TOOL.name not in lone:
        bare |= {calls_in_text}
        return Habits(tools=False, offered=bare, bare=bare)
    return Habits(tools=True, offered=offered, bare=bare)


def _remedies(template: ChatTemplate, schemas: Sequence[Message]) -> frozenset[Remedy]:
    found: frozenset[Remedy] = frozenset()
    for probe in _probes(offered=bool(schemas)):
        for more in (frozenset[Remedy](), *probe.remedies):
            text, other = (
                template.attempt(changed(messages, found | more), schemas) if messages else ""
                for messages in (probe.messages, probe.unlike)
            )
            if text != other and probe.holds(text):
                found |= more
                break
    return found


# ------------------------------------------------------------ what ends a turn


@dataclass(frozen=True)
class TurnEnds:
    """Texts that end a turn.

    Attributes:
        turns: Those that end an assistant's message, as the model writes them or as the next prompt has them.
        others: Those of them that end other messages too.
        stops: Those after which the model has written all of its turn.
    """

    turns: frozenset[str]
    others: frozenset[str]
    stops: frozenset[str]


def find_turn_ends(
    template: ChatTemplate, habits: Habits, known: Iterable[str], thoughts: Iterable[ThoughtMarks]
) -> TurnEnds:
    """Return what ends a turn.

    Args:
        template: The template.
        habits: How it is handed conversations.
        known: What the model's configuration names.
        thoughts: What stands around thoughts; what ends one does not end a turn.
    """

    def text(*messages: Message, schemas: Sequence[Message] = ()) -> str:
        remedies = habits.offered if schemas else habits.bare
        return template.attempt(changed(messages, remedies), schemas, open_turn=False)

    user, turn = said("user", "worda"), said("assistant", "wordb")
    last = template.controls(text(user, turn).partition("wordb")[2])
    earlier = template.controls(between(text(user, turn, said("user", "wordc")), "wordb", "wordc"))
    found = set(known)
    # The last of what follows a last turn; and the first of what follows an earlier one, unless it has one of these.
    found.update(last[-1:] or earlier[:1])
    if not found & set(earlier):
        found.update(earlier[:1])
    if habits.tools:
        call, schemas = called("", "wordb"), [tool_schema(PROBE_TOOL)]
        asked = template.controls(text(user, call, schemas=schemas).rpartition("wordb")[2])
        later = text(user, call, answered("wordc", "wordb"), schemas=schemas).rpartition("wordc")[0]
        before = template.controls(later.rpartition("wordb")[2])
        if not found & {*asked, *before}:
            special = template.special
            found.update([t for t in asked if t in special][-1:] or [t for t in before if t in special][:1])
    others = found & set(template.controls(between(text(user, turn), "worda", "wordb")))
    stops = found - {mark.close for mark in thoughts}
    return TurnEnds(frozenset(found), frozenset(others), frozenset(stops))


def stop_ids(tokenizer: PreTrainedTokenizerBase, known: Iterable[int]) -> frozenset[int]:
    """Return the tokens after which a model has written all of its turn: those that are known, and those of its chat template."""
    if not tokenizer.chat_template:
        return frozenset(known)
    template = ChatTemplate(tokenizer)
    texts = [text for text in tokenizer.convert_ids_to_tokens(sorted(known)) if text]
    ends = find_turn_ends(template, find_habits(template), texts, find_thought_marks(template))
    return frozenset(known) | template.ids(ends.stops)
