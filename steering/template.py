"""A tokenizer's chat template, as it is, and the small conversations by which it is tried."""

import copy
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from functools import cached_property
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from self_steering.steering.tool_calls import PROBE_TOOL
from self_steering.vectors.shown import in_one_line

Message = dict[str, Any]

_SPECIAL_NAMES = ("bos_token", "eos_token", "unk_token", "pad_token")
_DATE_CALL = re.compile(r"""\bstrftime_now\(\s*(["'])(?P<format>[^"']*)\1\s*\)""")

# Text that looks like a control token: <|im_end|>, </s>, [/INST], ◁/think▷.
TAG = re.compile(r"<[^<>\s]{1,40}>|\[/?[A-Z_]{2,30}\]|◁[^◁▷\s]{1,40}▷")


REMEDY = "; send other roles, or use another template"


class ChatError(ValueError):
    """A conversation that cannot be rendered so that every message's tokens are known."""


class ChatTemplate:
    """A tokenizer's chat template.

    Args:
        tokenizer: A tokenizer with a chat template, or with several by name.
        today: The date that templates which print one print; default the day on which this is made.

    Attributes:
        tokenizer: The tokenizer.
        sources: The templates by name, with the date in them; `default` where there is but one.
        date: The date that they print; None where they print none.

    Raises:
        ChatError: There is no template.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, today: date | None = None) -> None:
        given = tokenizer.chat_template
        if not given:
            raise ChatError(
                f"{tokenizer.name_or_path!r} has no chat template; use an instruction-tuned model, or add a "
                "`chat_template.jinja` to its folder"
            )
        self._today = today or date.today()  # noqa: DTZ011  the day where the run is made
        self.tokenizer = tokenizer
        if isinstance(given, list):
            given = {entry["name"]: entry["template"] for entry in given}
        named = given if isinstance(given, dict) else {"default": given}
        self.date = self._today if any(map(_DATE_CALL.search, named.values())) else None
        self.sources: Mapping[str, str] = {name: _DATE_CALL.sub(self._dated, text) for name, text in named.items()}
        # A template that adds a token to text fails where the tokenizer has no such token.
        tokens = {name: getattr(tokenizer, name) or "" for name in _SPECIAL_NAMES}
        self._options: Mapping[str, Any] = {**tokens, "enable_thinking": False}

    @cached_property
    def special(self) -> frozenset[str]:
        """The texts of the tokenizer's special tokens."""
        return frozenset(t.content for t in self.tokenizer.added_tokens_decoder.values() if t.special)

    @cached_property
    def _control(self) -> re.Pattern[str]:
        added = {t.content for t in self.tokenizer.added_tokens_decoder.values() if not t.content.isspace()}
        return re.compile("|".join(map(re.escape, sorted(added, key=len, reverse=True))) or r"(?!)")

    def controls(self, text: str) -> list[str]:
        """Return the control tokens in a text, in order; what looks like some where none is a token."""
        return self._control.findall(text) or TAG.findall(text)

    def ids(self, texts: Iterable[str]) -> frozenset[int]:
        """Return the ids of those texts that are tokens."""
        added = self.tokenizer.get_added_vocab()
        return frozenset(added[text] for text in texts if text in added)

    def _dated(self, call: re.Match[str]) -> str:
        """Return what a call of `strftime_now` gives, as a literal of the template's language."""
        return json.dumps(self._today.strftime(call["format"]), ensure_ascii=False)

    def told(self, options: Mapping[str, Any]) -> "ChatTemplate":
        """Return this template with some of the variables that it asks for."""
        other = copy.copy(self)
        other._options = {**self._options, **options}  # noqa: SLF001  a copy of this very object
        return other

    def write(self, messages: Sequence[Message], schemas: Sequence[Message] = (), *, open_turn: bool = True) -> str:
        """Return the text of a conversation.

        Args:
            messages: The messages, as templates take them.
            schemas: The tools that are offered.
            open_turn: Whether the assistant's next turn is opened.

        Raises:
            ChatError: The template refuses the conversation.
        """
        wanted = "tool_use" if schemas else "default"
        try:
            text = self.tokenizer.apply_chat_template(
                [*messages],
                tools=[*schemas] or None,
                chat_template=self.sources.get(wanted, next(iter(self.sources.values()))),
                tokenize=False,
                add_generation_prompt=open_turn,
                **self._options,
            )
        except (TemplateError, TypeError, KeyError, ValueError, AttributeError, IndexError) as error:
            roles = " ".join(message["role"] for message in messages)
            raise ChatError(
                f"the chat template refuses this conversation ({roles}): {in_one_line(error)}{REMEDY}"
            ) from error
        return str(text)

    def attempt(self, messages: Sequence[Message], schemas: Sequence[Message] = (), *, open_turn: bool = True) -> str:
        """Return the text of a conversation, empty where the template refuses it."""
        try:
            return self.write(messages, schemas, open_turn=open_turn)
        except ChatError:
            return ""


def shared(first: str, second: str) -> int:
    """Return how many letters two texts have in common at their beginning."""
    return next(
        (n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )


# ------------------------------------------------------------ small conversations by which a template is tried


def said(role: str, word: str, **more: Any) -> Message:
    """Return a message."""
    return {"role": role, "content": word, **more}


def called(word: str, *notes: str, **more: Any) -> Message:
    """Return an assistant message with a call for each note, of a tool without a parameter where that is empty."""
    calls = [
        {
            "type": "function",
            "id": _probe_id(note),
            "function": {"name": PROBE_TOOL.name, "arguments": {"name": note} if note else {}},
        }
        for note in notes
    ]
    return said("assistant", word, tool_calls=calls, **more)


def answered(word: str, note: str) -> Message:
    """Return a tool's answer to the call with that note."""
    return said("tool", word, name=PROBE_TOOL.name, tool_call_id=_probe_id(note))


def _probe_id(note: str) -> str:
    # Without the note's own text, which is looked for.
    return f"probe_{note[::-1]}"


def in_order(text: str, *words: str) -> bool:
    """Tell whether a text has each of the words once at least, first seen in this order."""
    places = [text.find(word) for word in words]
    return -1 not in places and places == sorted(places)


def between(text: str, first: str, second: str) -> str:
    """Return what stands between two words of a text."""
    return text.partition(first)[2].partition(second)[0]
