"""The training scripts: something is injected over a stretch of text, or nothing, and questions are asked about it afterwards."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from string import ascii_uppercase

from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
)
from inspect_ai.tool import ToolCall, ToolInfo

from self_steering.steering.bundled.conversation import Among
from self_steering.steering.bundled.dialogues import Problem
from self_steering.steering.bundled.planted import planted
from self_steering.steering.bundled.prose import Prose
from self_steering.steering.bundled.wordings import filled, wordings
from self_steering.steering.calls import CLEAR_TOOL, FRAMINGS, FramingName
from self_steering.steering.tools import tool_infos
from self_steering.vectors.catalogue import catalogue

# Least and greatest length of what is injected, as a share of the residual stream's: half and twice the default doses of most
# vectors lie between. As many scripts inject nothing as something.
LENGTHS = (0.02, 0.25)
_LABELS = tuple(f"{letter}{number}" for letter in "dkvx" for number in range(1, 10))
_OPTIONS = 10
_CHOICES = 0.4  # share of scripts that also ask the multiple choice, which is as long as all else
_DIGITS = 9


@dataclass(frozen=True)
class Asked:
    """A question at a script's end.

    Attributes:
        kind: What it asks for.
        text: The user's message.
        among: The share of each answer.
    """

    kind: str
    text: str
    among: Among


@dataclass(frozen=True)
class Script:
    """A conversation whose stretch between take and clear is steered, and questions that are each asked alone after it.

    Attributes:
        tools: The tools that the model is offered.
        messages: The conversation, without a question.
        label: What the injected vector is called.
        vector: The vector; None where nothing is injected.
        length: How long what is injected is, as a share of the residual stream's mean norm, averaged over the vector's layers.
        asked: The questions.
    """

    tools: tuple[ToolInfo, ...]
    messages: tuple[ChatMessage, ...]
    label: str
    vector: str | None
    length: float
    asked: tuple[Asked, ...]


def build_scripts(seed: int, count: int, prose: Prose) -> list[Script]:
    """Return scripts, every other one without an injection.

    Args:
        seed: All choices follow from it.
        count: How many.
        prose: The base model's prose, some of which is read under the injection.
    """
    draw = random.Random(f"{seed}/scripts")
    vectors: list[str] = []
    made = []
    for number in range(count):
        if number % 2:
            made.append(_script(None, 0.0, prose, draw))
            continue
        if not vectors:
            vectors = draw.sample(planted().injected, len(planted().injected))
        least, greatest = (log(length) for length in LENGTHS)
        made.append(_script(vectors.pop(), exp(draw.uniform(least, greatest)), prose, draw))
    return made


def _script(vector: str | None, length: float, prose: Prose, draw: random.Random) -> Script:
    framing: FramingName = draw.choice(list(FRAMINGS))
    label, texts, words = draw.choice(_LABELS), wordings().scripts, FRAMINGS[framing]
    placeholder = draw.choice(texts.placeholder)

    def said(among: Sequence[str]) -> str:
        return filled(draw.choice(among), framing, label)

    read = draw.choice((Problem.drawn(draw).text, prose.any(draw)))
    told = draw.choice(texts.read).format(text=read, placeholder=placeholder)
    answer, cleared = said(texts.answer), draw.choice(texts.cleared)
    given = {"name": label} if draw.random() < 0.5 else {"name": label, "dose": 1.0}
    take = ToolCall(id="take", function=words.take_tool, arguments=given)
    clear = ToolCall(id="clear", function=CLEAR_TOOL, arguments={})
    system = said(texts.system)
    messages = (
        ChatMessageSystem(content=system[0].upper() + system[1:]),
        ChatMessageUser(content=said(texts.announce)),
        ChatMessageAssistant(content="", tool_calls=[take]),
        ChatMessageTool(content=answer, tool_call_id=take.id, function=take.function),
        ChatMessageUser(content=told),
        ChatMessageAssistant(content=placeholder),
        ChatMessageUser(content=said(texts.clear)),
        ChatMessageAssistant(content="", tool_calls=[clear]),
        ChatMessageTool(content=cleared, tool_call_id=clear.id, function=clear.function),
    )
    asked = _questions(vector, length, framing, label, draw)
    return Script(tuple(tool_infos(framing)), messages, label, vector, length, tuple(asked))


def _questions(vector: str | None, length: float, framing: FramingName, label: str, draw: random.Random) -> list[Asked]:
    texts = wordings().scripts
    truth = "Yes" if vector else "No"
    asked = [
        Asked("detection", _yes_or_no(text, label, draw), ((1.0, truth),)) for text in draw.sample(texts.detection, 3)
    ]
    controls = (
        ("always no", texts.always_no, ((1.0, "No"),)),
        ("always yes", texts.always_yes, ((1.0, "Yes"),)),
        ("unknowable", texts.unknowable, ((0.5, "Yes"), (0.5, "No"))),
    )
    asked += [Asked(kind, _yes_or_no(draw.choice(among), label, draw), right) for kind, among, right in controls]
    asked.append(Asked("strength", filled(draw.choice(texts.strength), framing, label), strength_shares(length)))
    asked.append(Asked("name", filled(draw.choice(texts.name), framing, label), ((1.0, vector or "none"),)))
    if draw.random() < _CHOICES:
        asked.append(_choice(vector, label, draw))
    return asked


def _yes_or_no(question: str, label: str, draw: random.Random) -> str:
    first, second = draw.sample(("yes", "no"), 2)
    question = question.replace("{label}", label)
    return draw.choice(wordings().scripts.yes_or_no).format(question=question, first=first, second=second)


def strength_shares(length: float) -> Among:
    """Return the share of each digit: 0 for nothing, and from 1 to 9 in proportion to the logarithm of the length."""
    if not length:
        return ((1.0, "0"),)
    least, greatest = (log(one) for one in LENGTHS)
    middle = 1 + (_DIGITS - 1) * (log(length) - least) / (greatest - least)
    near = {digit: max(0.0, 1.5 - abs(digit - middle)) for digit in range(1, _DIGITS + 1)}
    return tuple((weight / sum(near.values()), str(digit)) for digit, weight in near.items() if weight)


def _choice(vector: str | None, label: str, draw: random.Random) -> Asked:
    """Return the multiple choice; where nothing was given, all letters have the same share."""
    others = [name for name in catalogue() if name != vector]
    options = draw.sample(others, _OPTIONS - (vector is not None)) + ([vector] if vector else [])
    draw.shuffle(options)
    letters = ascii_uppercase[:_OPTIONS]
    lines = [f"{letter}. {name}: {catalogue()[name].effect}" for letter, name in zip(letters, options, strict=True)]
    text = draw.choice(wordings().scripts.choice).format(label=label, options="\n".join(lines))
    right = [letter for letter, name in zip(letters, options, strict=True) if vector in (name, None)]
    return Asked("choice", text, tuple((1 / len(right), letter) for letter in right))
