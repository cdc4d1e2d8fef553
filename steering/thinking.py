"""The switch by which a chat template turns thoughts on and off, under whatever name it has one."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from self_steering.steering.template import TAG, ChatError, ChatTemplate

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
    user = {"role": "user", "content": "worda"}
    texts = [told.attempt([user]), told.attempt([{"role": "system", "content": "wordb"}, user])]
    return "\0".join(texts) if any(texts) else None
