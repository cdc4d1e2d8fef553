"""What a chat template can express, found by trying it once at load.

Templates refuse, drop or move what is ordinary in a study: two user messages in a row, a system text, an empty turn, a call beside
text. Each such habit is found by rendering a small conversation and looking for its words. Where they are not there, the messages
that the template gets are changed by the first remedy that brings them back, and from then on always by the same.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from inspect_ai.tool import ToolInfo, ToolParam, ToolParams
from transformers import PreTrainedTokenizerBase

from self_steering.steering.remedies import (
    ARGUMENTS_IN_TEXT,
    CALLS_IN_TEXT,
    CONTENT_IN_PARTS,
    ELLIPSIS_FOR_EMPTY,
    JOINED_TURNS,
    JOINED_USERS,
    LATER_SYSTEM_BY_USER,
    NAMED_IDS,
    NINE_LETTER_IDS,
    ONE_CALL_EACH,
    PARALLEL_IN_TEXT,
    SPACE_FOR_EMPTY,
    SYSTEM_IN_FRONT,
    TEXT_BEFORE_CALL,
    TEXT_IN_THOUGHT,
    TURN_AFTER_ANSWER,
    USER_FIRST,
    USER_IN_ANSWER,
    Remedy,
    changed,
)
from self_steering.steering.template import TAG, ChatTemplate, Message, shared
from self_steering.steering.tool_calls import tool_schema

PROBE_TOOL = ToolInfo(
    name="probe_tool",
    description="Tried once at load.",
    parameters=ToolParams(properties={"note": ToolParam(type="string", description="A note.")}, required=["note"]),
)
_NAME = PROBE_TOOL.name


def _said(role: str, word: str, **more: Any) -> Message:
    return {"role": role, "content": word, **more}


def _called(word: str, *notes: str, **more: Any) -> Message:
    calls = [
        {
            "type": "function",
            "id": _probe_id(note),
            "function": {"name": _NAME, "arguments": {"note": note} if note else {}},
        }
        for note in notes
    ]
    return _said("assistant", word, tool_calls=calls, **more)


def _answered(word: str, note: str) -> Message:
    return _said("tool", word, name=_NAME, tool_call_id=_probe_id(note))


def _probe_id(note: str) -> str:
    # Without the note's own text, which is looked for.
    return f"probe_{note[::-1]}"


def in_order(text: str, *words: str) -> bool:
    """Tell whether a text has each of the words once at least, first seen in this order."""
    places = [text.find(word) for word in words]
    return -1 not in places and places == sorted(places)


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
        return _said("user", word)

    def turn(word: str) -> Message:
        return _said("assistant", word)

    system = _said("system", "wordsys")

    def words(messages: Sequence[Message], *remedies: Iterable[Remedy], unlike: Sequence[Message] = ()) -> _Probe:
        shown = [m["content"] for m in messages if m["content"]]
        return _Probe(messages, lambda text: in_order(text, *shown), [frozenset(r) for r in remedies], unlike)

    yield words([user(a), turn(b), user(c)], {CONTENT_IN_PARTS})
    # Wherever it stands: some templates move it into the last user message.
    yield _Probe(
        [system, user(a), turn(b), user(c)],
        lambda text: in_order(text, a, b, c) and "wordsys" in text,
        [frozenset({SYSTEM_IN_FRONT})],
    )
    for empty in ([user(a), turn(""), user(b)], [user(a), turn(b), user(""), turn(c)]):
        yield words(empty, {SPACE_FOR_EMPTY}, {ELLIPSIS_FOR_EMPTY})
    yield words([user(a), user(b), turn(c), user(d), user(e)], {JOINED_USERS})
    yield words([user(a), turn(b), turn(c), user(d)], {JOINED_TURNS})
    # Llama's templates take the first message for a user's, whoever wrote it.
    yield words([turn(a), user(b), turn(c), user(d)], {USER_FIRST}, unlike=[user(a), user(b), turn(c), user(d)])
    yield words([system, turn(a), user(b)], {USER_FIRST}, unlike=[system, user(a), user(b)])
    yield words(
        [user(a), turn(b), _said("system", c), user(d)], {LATER_SYSTEM_BY_USER}, {LATER_SYSTEM_BY_USER, JOINED_USERS}
    )
    yield words(
        [system, user(a), _said("system", b), turn(c), user(d)],
        {LATER_SYSTEM_BY_USER},
        {LATER_SYSTEM_BY_USER, JOINED_USERS},
    )

    ids = [frozenset[Remedy](), frozenset({NINE_LETTER_IDS}), frozenset({NAMED_IDS})]
    forms = [names | text for text in (frozenset[Remedy](), frozenset({ARGUMENTS_IN_TEXT})) for names in ids]
    in_text = frozenset({CALLS_IN_TEXT})
    yield _Probe(
        [user(a), _called("", b), _answered(c, b), turn(d), user(e)],
        lambda text: in_order(text, a, b, c, d, e) and _NAME in text[text.find(a) : text.find(c)],
        [*forms[1:], in_text, in_text | {JOINED_USERS}],
    )
    if offered:
        # Mistral's templates print it in a last message of the user's only, and with tools the last is often an answer.
        yield _Probe(
            [system, user(a), _called("", b), _answered(c, b)],
            lambda text: "wordsys" in text,
            [frozenset({SYSTEM_IN_FRONT})],
        )
    yield _Probe(
        [user(a), _called("", ""), _answered(c, ""), turn(d)],
        lambda text: in_order(text, a, c, d) and _NAME in text[text.find(a) : text.find(c)],
        [in_text],
    )
    # The text may be dropped, as Llama's templates do, but not stand behind the answer.
    yield _Probe(
        [user(a), _called(b, c), _answered(d, c), turn(e)],
        lambda text: in_order(text, a, c, d, e) and text.find(b) < text.find(c),
        [frozenset({TEXT_BEFORE_CALL})],
    )
    yield _Probe(
        [user(a), _called(b, c, reasoning_content="wordthought"), _answered(d, c)],
        lambda text: in_order(text, a, c, d),
        [frozenset({TEXT_IN_THOUGHT})],
    )
    yield _Probe(
        [user(a), _called("", b, c), _answered(d, b), _answered(e, c), turn("wordf")],
        lambda text: in_order(text, a, b, c, d, e, "wordf"),
        [frozenset({PARALLEL_IN_TEXT}), frozenset({ONE_CALL_EACH}), in_text],
    )
    yield _Probe(
        [user(a), _called("", b), _answered(c, b), user(d)],
        lambda text: in_order(text, a, b, c, d),
        [frozenset({TURN_AFTER_ANSWER}), frozenset({USER_IN_ANSWER}), in_text],
    )
    yield _Probe(
        [user(a), _called("", b), _answered("", b), turn(d)],
        lambda text: in_order(text, a, b, d),
        [frozenset({SPACE_FOR_EMPTY}), frozenset({ELLIPSIS_FOR_EMPTY})],
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
    lone = template.attempt(changed([_said("user", "worda")], offered), schemas)
    if CALLS_IN_TEXT in offered or _NAME not in lone:
        bare |= {CALLS_IN_TEXT}
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


# ------------------------------------------------------------ what ends a turn, what stands around a thought

_THOUGHT_TAG = re.compile(
    r"[<\[◁](?=[^<>\[\]◁▷\s]*(?:think|thought|reason))[^<>\[\]◁▷\s'\"{}()+]{1,40}[>\]▷]", re.IGNORECASE
)
_OPENINGS = (
    (r"(?<=^[<\[◁])/", ""),
    (r"END(?=_)|(?<=_)END", "START"),
    (r"end(?=_)|(?<=_)end", "start"),
    (r"end(?=_)|(?<=_)end", "begin"),
)


@dataclass(frozen=True)
class ThoughtMarks:
    """What stands around a thought.

    Attributes:
        open: What opens it, such as `<think>` or `<|channel|>analysis<|message|>`.
        close: What ends it, such as `</think>` or `<|end|>`.
    """

    open: str
    close: str


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


def find_thought_marks(template: ChatTemplate) -> tuple[ThoughtMarks, ...]:
    """Return the marks of thoughts: those that the template writes around one, and those that it or the tokenizer names."""
    user, thought = _said("user", "worda"), {"reasoning_content": "wordb"}
    # Some templates show thoughts of calls only.
    texts = (
        template.attempt([user, _said("assistant", "wordc", **thought)], open_turn=False),
        template.attempt([user, _called("", "wordc", **thought), _answered("wordd", "wordc")]),
    )
    plain = _between(template.attempt([user, _said("assistant", "wordc"), user]), "worda", "wordc")
    opened = template.attempt([user]).partition("worda")[2]
    shown = [text for text in texts if in_order(text, "worda", "wordb", "wordc")]
    found = [
        _marks_around(_between(text, "worda", "wordb"), _between(text, "wordb", "wordc"), plain, opened)
        for text in shown
    ]
    names = " ".join(
        [*template.sources.values(), *(t.content for t in template.tokenizer.added_tokens_decoder.values())]
    )
    named = _named_marks(set(_THOUGHT_TAG.findall(names)))
    return tuple(dict.fromkeys(marks for marks in (*found[:1], *named) if marks is not None))


def _marks_around(before: str, after: str, *others: str) -> ThoughtMarks | None:
    """Return the marks of a thought.

    Args:
        before: What stands between the user's text and the thought.
        after: What stands between the thought and what follows it.
        others: What stands behind a user's text without a thought.
    """
    cut = min(shared(before, other) for other in others)
    cut = next((tag.start() for tag in TAG.finditer(before) if tag.start() < cut < tag.end()), cut)
    opening, closing = before[cut:].strip() or (TAG.findall(before) or [""])[-1], TAG.search(after)
    return ThoughtMarks(opening, closing[0]) if opening and closing else None


def _named_marks(tags: set[str]) -> Iterator[ThoughtMarks]:
    """Return the pairs of tags of which one, at least, is named."""
    paired = set()
    for tag in sorted(tags):
        openings = [re.sub(old, new, tag) for old, new in _OPENINGS if re.search(old, tag)]
        if openings:
            opening = next((o for o in openings if o in tags), openings[0])
            paired |= {tag, opening}
            yield ThoughtMarks(opening, tag)
    for tag in sorted(tags - paired):
        if "|" not in tag:
            yield ThoughtMarks(tag, f"{tag[0]}/{tag[1:]}")


def _between(text: str, first: str, second: str) -> str:
    return text.partition(first)[2].partition(second)[0]


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

    user, turn = _said("user", "worda"), _said("assistant", "wordb")
    last = template.controls(text(user, turn).partition("wordb")[2])
    earlier = template.controls(_between(text(user, turn, _said("user", "wordc")), "wordb", "wordc"))
    found = set(known)
    # The last of what follows a last turn; and the first of what follows an earlier one, unless it has one of these.
    found.update(last[-1:] or earlier[:1])
    if not found & set(earlier):
        found.update(earlier[:1])
    if habits.tools:
        call, schemas = _called("", "wordb"), [tool_schema(PROBE_TOOL)]
        asked = template.controls(text(user, call, schemas=schemas).rpartition("wordb")[2])
        answered = text(user, call, _answered("wordc", "wordb"), schemas=schemas).rpartition("wordc")[0]
        before = template.controls(answered.rpartition("wordb")[2])
        if not found & {*asked, *before}:
            special = template.special
            found.update([t for t in asked if t in special][-1:] or [t for t in before if t in special][:1])
    others = found & set(template.controls(_between(text(user, turn), "worda", "wordb")))
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
