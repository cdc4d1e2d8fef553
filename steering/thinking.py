"""Thoughts: the switch by which a chat template turns them on and off, what stands around them, and what of a text is one."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from self_steering.steering.template import (
    TAG,
    ChatError,
    ChatTemplate,
    answered,
    between,
    called,
    in_order,
    said,
    shared,
)
from self_steering.steering.token_bytes import token_bytes
from self_steering.vectors.shown import shown

Wanted = bool | int | str | None
"""What is asked for: on, off, a level such as `low`, or None for off where that can be said, else what the template does."""

_NAME = re.compile(r"\b\w*(?:think|reason)\w*\b", re.IGNORECASE)
_FIRST = ("enable_thinking", "thinking", "think", "enable_reasoning", "reasoning")
_LEVELS = re.compile(r"effort|budget|level|mode|type|style|tokens", re.IGNORECASE)
_INVERTED = re.compile(r"^(?:no|not|disable|skip|without|hide)_?", re.IGNORECASE)
_OFF = ("none", "off", "no_think", "disabled")
# Lines of the system text that templates look for: what turns thoughts on, and off.
_LINES = (("/think", "/no_think"), ("/think", "/nothink"), ("detailed thinking on", "detailed thinking off"))
_NONSENSE = "zero"


@dataclass(frozen=True)
class Thinking:
    """How a template is told whether to think.

    Attributes:
        options: Variables that it is given.
        line: A line of the system text that it, or the model, looks for.
        on: Whether thoughts are on; None where nothing is known of it.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    line: str | None = None
    on: bool | None = None


def find_thinking(template: ChatTemplate, wanted: Wanted) -> Thinking:
    """Return how a template is told what is wanted.

    Raises:
        ChatError: It cannot be told; the message says what it can be.
    """
    switch = next(_switches(template), None)
    level = next(_level_names(template), None)
    if isinstance(wanted, bool | None):
        if switch is not None:
            return Thinking({switch: bool(wanted) is not bool(_INVERTED.match(switch))}, on=bool(wanted))
        if level is not None:
            return _as_level(template, level, wanted)
        if lines := _lines(template):
            return Thinking() if wanted is None else Thinking(line=lines[not wanted], on=wanted)
        return _as_it_does(template, wanted)
    if level is None:
        known = "thinking=true and thinking=false" if switch or _lines(template) else "no switch at all"
        raise ChatError(f"thinking={wanted!r}: the chat template has no levels of thinking; it has {known}")
    text = _prompt(template, {level: wanted})
    if text is None or text == _prompt(template, {level: _NONSENSE}):
        raise ChatError(
            f"thinking={wanted!r}: the chat template does not know this value of {level}; see its model card"
        )
    return Thinking({level: wanted}, on=wanted not in _OFF)


def _as_level(template: ChatTemplate, name: str, wanted: bool | None) -> Thinking:
    """Return how a template with levels of thinking is told on or off."""
    if wanted is None or wanted:
        return Thinking(on=True)
    for off in _OFF:
        named = any(re.search(rf"[\"']{off}[\"']", source) for source in template.sources.values())
        if named and _prompt(template, {name: off}) not in (None, _prompt(template, {})):
            return Thinking({name: off}, on=False)
    raise ChatError(
        f"thinking=false: the chat template knows levels of thinking alone ({name}); pass one of them, such as thinking=low"
    )


def _as_it_does(template: ChatTemplate, wanted: bool | None) -> Thinking:
    """Return what a template without a switch does anyway, if that is what is wanted."""
    if wanted is None:
        return Thinking()
    text = _prompt(template, {}) or ""
    # A mark of thoughts need not be a control token of the tokenizer.
    thinks = bool(_NAME.search(" ".join([*template.controls(text), *TAG.findall(text)])))
    opens = thinks and not re.search(r"/\s*(?:\w+:)?think", text, re.IGNORECASE)
    if wanted and opens:
        return Thinking(on=True)
    raise ChatError(
        f"thinking={str(wanted).lower()}: the chat template has no switch for thinking (such as enable_thinking, thinking or "
        "reasoning_effort); leave it out" + (", as this one always thinks" if opens else "")
    )


def _switches(template: ChatTemplate) -> Iterator[str]:
    """Yield the template's variables that turn something on or off."""
    for name in _names(template):
        if not _LEVELS.search(name):
            on, off = _prompt(template, {name: True}), _prompt(template, {name: False})
            if on is not None and off is not None and on != off:
                yield name


def _level_names(template: ChatTemplate) -> Iterator[str]:
    """Yield the template's variables that take a level of thinking."""
    for name in _names(template):
        if _LEVELS.search(name):
            texts = {_prompt(template, {name: value}) for value in ("low", "high", "none", _NONSENSE)} - {None}
            if len(texts) > 1:
                yield name


def _lines(template: ChatTemplate) -> tuple[str, str] | None:
    """Return the lines of the system text that the template looks for."""
    text = "\n".join(template.sources.values())
    return next((pair for pair in _LINES if pair[1] in text), None)


def _names(template: ChatTemplate) -> list[str]:
    found = {name for source in template.sources.values() for name in _NAME.findall(source)}
    return [*(name for name in _FIRST if name in found), *sorted(found - set(_FIRST))]


def _prompt(template: ChatTemplate, options: Mapping[str, Any]) -> str | None:
    """Return what the template makes of a short conversation, None where it refuses the options."""
    told = template.told(options)
    user = said("user", "worda")
    texts = [told.attempt([user]), told.attempt([said("system", "wordb"), user])]
    return "\0".join(texts) if any(texts) else None


# ------------------------------------------------------------ what stands around a thought

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


def find_thought_marks(template: ChatTemplate) -> tuple[ThoughtMarks, ...]:
    """Return the marks of thoughts: those that the template writes around one, and those that it or the tokenizer names."""
    user, thought = said("user", "worda"), {"reasoning_content": "wordb"}
    # Some templates show thoughts of calls only.
    texts = (
        template.attempt([user, said("assistant", "wordc", **thought)], open_turn=False),
        template.attempt([user, called("", "wordc", **thought), answered("wordd", "wordc")]),
    )
    plain = between(template.attempt([user, said("assistant", "wordc"), user]), "worda", "wordc")
    opened = template.attempt([user]).partition("worda")[2]
    shown = [text for text in texts if in_order(text, "worda", "wordb", "wordc")]
    found = [
        _marks_around(between(text, "worda", "wordb"), between(text, "wordb", "wordc"), plain, opened) for text in shown
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


# ------------------------------------------------------------ what of a text is thought, and what is said

# Harmony (gpt-oss) names the channel of each message before it; those of calls, which name a recipient, are read as such.
_CHANNEL = re.compile(
    r"(?:<\|start\|>assistant)?<\|channel\|>(?:final|commentary)(?![^<]*\bto=)[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>"
)
_HEADER_ALONE = re.compile(r"<\|start\|>assistant(?=\s*\Z)")


@dataclass(frozen=True)
class Parts:
    """A text, taken apart.

    Attributes:
        thoughts: The thoughts, in order; the last may be cut off.
        said: The rest.
        spans: Characters of the text that are thought, marks included, as (first, last + 1).
    """

    thoughts: list[str]
    said: str
    spans: list[tuple[int, int]]


def take_apart(text: str, marks: Sequence[ThoughtMarks], opened: ThoughtMarks | None = None) -> Parts:
    """Tell thoughts from what is said.

    A thought begins where the prompt has opened one, at the beginning of the text or of a line, or where its words follow the
    mark at once, and lasts to its closing mark; one that is cut off is no answer, and no call in it is one. A closing mark where no
    thought is open is text, and so is an opening mark that a sentence speaks of. Where a template knows of no thoughts, a
    model may have been trained to think all the same.

    Args:
        text: What a model wrote, its control tokens included.
        marks: What stands around thoughts.
        opened: The marks of the thought that the prompt opens, in which the text begins; None where it opens none.

    Example:
        >>> think = ThoughtMarks("<think>", "</think>")
        >>> take_apart("I wonder.</think>Yes.", [think], opened=think).said
        'Yes.'
        >>> take_apart("HTML has no </think>.", [think]).said
        'HTML has no </think>.'
    """
    marks = marks or _COMMON
    thoughts: list[str] = []
    said: list[str] = []
    spans: list[tuple[int, int]] = []
    at = 0
    current, start = opened, 0
    while True:
        if current is None:
            found = _next_opening(text, at, marks)
            if found is None:
                break
            current, start, inside = found
            said.append(_HEADER_ALONE.sub("", text[at:start]))
        else:
            inside = at
        # A model may repeat the mark that the prompt has written.
        if not thoughts and text[inside:].lstrip().startswith(current.open):
            inside = text.index(current.open, inside) + len(current.open)
        close = text.find(current.close, inside)
        end = len(text) if close < 0 else close + len(current.close)
        thoughts.append(text[inside : end if close < 0 else close].strip("\n"))
        spans.append((start, end))
        at, current = end, None
    said.append(text[at:])
    if thoughts:  # the line ends behind a thought are its own
        said = [said[0] if opened is None else said[0].lstrip("\n"), *(part.lstrip("\n") for part in said[1:])]
    return Parts(thoughts, _without_channels("".join(said)), spans)


def thought_tokens(
    tokenizer: PreTrainedTokenizerBase,
    ids: Sequence[int],
    turns: Sequence[tuple[int, int]],
    marks: Sequence[ThoughtMarks],
) -> NDArray[np.bool_]:
    """Return for each token whether it is part of a thought, marks included.

    Args:
        tokenizer: The model's tokenizer.
        ids: Prompt and text.
        turns: Positions of the assistant's turns, as (first, last + 1).
        marks: What stands around thoughts.
    """
    found = np.zeros(len(ids), np.bool_)
    marks = marks or _COMMON
    # A character a byte, so that characters are counted in bytes, as tokens are.
    as_bytes = [
        ThoughtMarks(one.open.encode().decode("latin-1"), one.close.encode().decode("latin-1")) for one in marks
    ]
    for start, stop in turns:
        text = str(tokenizer.decode(list(ids[start:stop])))
        if not any(_opening(one).search(text) for one in marks):
            continue
        pieces = [token_bytes(tokenizer, token).decode("latin-1") for token in ids[start:stop]]
        ends = np.cumsum([len(piece) for piece in pieces])
        for first, last in take_apart("".join(pieces), as_bytes).spans:
            inside = np.searchsorted(ends, [first, last - 1], side="right") + start
            found[inside[0] : inside[1] + 1] = True
    return found


def answer_tokens(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], said: str, header: Sequence[int], thought: NDArray[np.bool_]
) -> tuple[int, int]:
    """Return the tokens of a turn that hold what it says to the user, as (first, last + 1).

    Args:
        tokenizer: The model's tokenizer.
        ids: The turn's tokens.
        said: What it says.
        header: Tokens with which the template begins a turn.
        thought: For each of the turn's tokens whether it is part of a thought.

    Raises:
        ValueError: It is not there.
    """
    pieces = [token_bytes(tokenizer, token) for token in ids]
    ends = np.cumsum([len(piece) for piece in pieces])
    text, before = b"".join(pieces), b"".join(token_bytes(tokenizer, token) for token in header)
    begins = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(text, before, strict=False)))
    if thought.any():
        begins = max(begins, int(ends[thought.nonzero()[0][-1]]))
    # As the tokenizer has it, which may compose characters.
    own = tokenizer(said.strip(), add_special_tokens=False)["input_ids"]
    wanted = b"".join(token_bytes(tokenizer, token) for token in own).strip()
    start = text.find(wanted, begins)
    if start < 0:
        raise ValueError(
            f"the answer {shown(said)} is not in the turn as the chat template writes it; use site=assistant"
        )
    first, last = np.searchsorted(ends, [start, start + len(wanted) - 1], side="right")
    return int(first), int(last) + 1


def left_open(text: str, marks: Sequence[ThoughtMarks]) -> ThoughtMarks | None:
    """Return the marks of the thought that a prompt opens and does not close, None where there is none."""
    at = 0
    while found := _next_opening(text, at, marks):
        one, _, inside = found
        at = text.find(one.close, inside)
        if at < 0:
            return one
        at += len(one.close)
    return next((one for one in marks if one.open and text.rstrip().endswith(one.open.rstrip())), None)


_COMMON = (ThoughtMarks("<think>", "</think>"),)
_MESSAGE = "<|message|>"


@lru_cache
def _opening(marks: ThoughtMarks) -> re.Pattern[str]:
    """Return the pattern of what opens a thought; where that is a message's header, the header may say more, but no recipient."""
    if not marks.open:
        return re.compile("(?!)")
    if not marks.open.endswith(_MESSAGE):
        return re.compile(re.escape(marks.open))
    more = r"(?![^<]*\bto=)[^<]*(?:<\|constrain\|>[^<]*)?"
    return re.compile(re.escape(marks.open.removesuffix(_MESSAGE)) + more + re.escape(_MESSAGE))


def _next_opening(text: str, at: int, marks: Sequence[ThoughtMarks]) -> tuple[ThoughtMarks, int, int] | None:
    """Return the marks of the next thought from `at` on, where it begins, and where what is in it does."""
    places = [
        (match.start(), match.start() - match.end(), match.end(), one)
        for one in marks
        for match in _opening(one).finditer(text, at)
        if _may_open(text, match.start(), match.end(), one)
    ]
    if not places:
        return None
    start, _, inside, one = min(places, key=lambda place: place[:2])
    return one, start, inside


def _may_open(text: str, start: int, inside: int, marks: ThoughtMarks) -> bool:
    """Return whether a mark opens a thought: behind nothing, a whole line, another control token or a thought, or at its words."""
    before = text[text.rfind("\n", 0, start) + 1 : start].strip()
    if not before or before.endswith((">", "]", "▷", "<|start|>assistant")):
        return True
    broken, after = "\n" in text[inside - 1 : inside + 1], text[inside : inside + 1]
    spoken_of = before.endswith(("`", '"', "'", "“"))
    return not spoken_of and (broken or (after.isalnum() and marks.close in text[inside:]))


def _without_channels(text: str) -> str:
    return _HEADER_ALONE.sub("", _CHANNEL.sub("", text))
