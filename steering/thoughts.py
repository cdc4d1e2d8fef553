"""What of a model's text is thought, and what is said."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from self_steering.steering.token_bytes import token_bytes
from self_steering.vectors.shown import shown

# Harmony (gpt-oss) names the channel of each message before it; those of calls, which name a recipient, are read as such.
_CHANNEL = re.compile(
    r"(?:<\|start\|>assistant)?<\|channel\|>(?:final|commentary)(?![^<]*\bto=)[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>"
)
_HEADER_ALONE = re.compile(r"<\|start\|>assistant(?=\s*\Z)")


class Marks(Protocol):
    """What stands around a thought."""

    @property
    def open(self) -> str:
        """What opens it."""

    @property
    def close(self) -> str:
        """What ends it."""


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


def take_apart(text: str, marks: Sequence[Marks], opened: Marks | None = None) -> Parts:
    """Tell thoughts from what is said.

    A thought begins where the prompt has opened one, at the beginning of the text or of a line, and lasts to its closing mark; one
    that is cut off is no answer, and no call in it is one. A closing mark where no thought is open is text, and so is an
    opening mark within a line.

    Args:
        text: What a model wrote, its control tokens included.
        marks: What stands around thoughts.
        opened: The marks of the thought that the prompt opens, in which the text begins; None where it opens none.

    Example:
        >>> from collections import namedtuple
        >>> think = namedtuple("Marks", "open close")("<think>", "</think>")
        >>> take_apart("I wonder.</think>Yes.", [think], opened=think).said
        'Yes.'
        >>> take_apart("HTML has no </think>.", [think]).said
        'HTML has no </think>.'
    """
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
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], turns: Sequence[tuple[int, int]], marks: Sequence[Marks]
) -> NDArray[np.bool_]:
    """Return for each token whether it is part of a thought, marks included.

    Args:
        tokenizer: The model's tokenizer.
        ids: Prompt and text.
        turns: Positions of the assistant's turns, as (first, last + 1).
        marks: What stands around thoughts.
    """
    found = np.zeros(len(ids), np.bool_)
    # A character a byte, so that characters are counted in bytes, as tokens are.
    as_bytes = [_Bytes(one.open.encode().decode("latin-1"), one.close.encode().decode("latin-1")) for one in marks]
    for start, stop in turns:
        text = str(tokenizer.decode(list(ids[start:stop])))
        if not any(one.open in text for one in marks):
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
    start = text.find(said.strip().encode(), begins)
    if start < 0:
        raise ValueError(
            f"the answer {shown(said)} is not in the turn as the chat template writes it; use site=assistant"
        )
    first, last = np.searchsorted(ends, [start, start + len(said.strip().encode()) - 1], side="right")
    return int(first), int(last) + 1


@dataclass(frozen=True)
class _Bytes:
    open: str
    close: str


def _next_opening(text: str, at: int, marks: Sequence[Marks]) -> tuple[Marks, int, int] | None:
    """Return the marks of the next thought from `at` on, where it begins, and where what is in it does."""
    places = [
        (match.start(), -len(one.open), match.end(), one)
        for one in marks
        if one.open
        for match in re.finditer(re.escape(one.open), text)
        if match.start() >= at and _may_open(text[: match.start()])
    ]
    if not places:
        return None
    start, _, inside, one = min(places, key=lambda place: place[:2])
    return one, start, inside


def _may_open(before: str) -> bool:
    """Return whether a thought may open after `before`: nothing, a whole line, another control token, or a thought."""
    line = before.rpartition("\n")[2].strip()
    return not line or line.endswith((">", "]", "▷", "<|start|>assistant"))


def _without_channels(text: str) -> str:
    return _HEADER_ALONE.sub("", _CHANNEL.sub("", text))
