"""A page for a reader of the transcript: every token of a prompt, and what steered it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from inspect_ai.log import transcript
from inspect_ai.model import ChatMessage, GenerateConfig, Model, ModelOutput
from inspect_ai.tool import ToolInfo
from pydantic import BaseModel

from self_steering.steering.plan import Plan
from self_steering.steering.request import SteeringRequest, steering_report
from self_steering.vectors.card import LibraryCard

_STEERED = "●"


def steering_map(tokens: Sequence[Sequence[Any]], roles: Sequence[str], receipts: Sequence[dict[str, Any]]) -> str:
    """Return Markdown that shows a prompt token by token.

    Args:
        tokens: For each token [text, index of its message, indices of the windows that steer it].
        roles: Role of each message; the generation prompt comes after the last.
        receipts: What the engine did, one entry a window.
    """
    lines = [_summary(receipt) for receipt in receipts] or ["Nothing is steered in this reading."]
    lines.append(f"\nOne token a box; {_STEERED} marks the steered ones. {len(tokens)} tokens.\n")
    for message, group in groupby(enumerate(tokens), key=lambda item: item[1][1]):
        members = list(group)
        first, last = members[0][0], members[-1][0]
        role = roles[message] if message < len(roles) else "generation prompt"
        steered = sum(bool(token[2]) for _, token in members)
        lines.append(f"\n**{message} · {role}** · positions {first}–{last} · {steered} of {len(members)} steered\n")
        lines.append(" ".join(f"{_STEERED if token[2] else ''}`{_visible(token[0])}`" for _, token in members))
    return "\n".join(lines)


def _summary(receipt: dict[str, Any]) -> str:
    before, after = receipt["projection_before"], receipt["projection_after"]
    moved = (
        ""
        if before is None
        else f"; projection {before:.2f} → {after:.2f} (expected shift {receipt['expected_shift']:.2f})"
    )
    return (
        f"- **{receipt['label']}**: strength {receipt['strength']:g} at layers {receipt['layers'][0]}–{receipt['layers'][-1]}, "
        f"positions {receipt['start']} to {receipt['stop']}: {receipt['planned']} planned, {receipt['steered']} steered"
        f"{moved} at layer {receipt['monitor_layer']}"
    )


# Inside a code span nothing but a backtick or the end of a line is special; the rest is only made visible.
_SHOWN = {"`": "ˋ", "\n": "⏎", " ": "·", "\t": "⇥", "\r": "␍"}


def _visible(text: str) -> str:
    shown = (_SHOWN.get(c) or (c if c.isprintable() else f"\\u{ord(c):04x}") for c in text)
    return "".join(shown) or "∅"


class Cost(BaseModel):
    """What a read-out took.

    Attributes:
        computed_tokens: Tokens that were computed for it.
        prompt_tokens: Tokens of its prompt, those found in the cache among them.
    """

    computed_tokens: int
    prompt_tokens: int


@dataclass(frozen=True)
class Readout:
    """What one read-out found.

    Attributes:
        logprobs: For each named answer its log-probability over the full vocabulary, all token forms together.
        receipts: What the engine did, one entry a window.
        cost: What it took.
        output: The provider's output.
    """

    logprobs: dict[str, float]
    receipts: list[dict[str, Any]]
    cost: Cost
    output: ModelOutput


async def read_answers(
    model: Model,
    messages: Sequence[ChatMessage],
    plan: Plan,
    answers: Mapping[str, Sequence[str]],
    *,
    tools: Sequence[ToolInfo] = (),
    library: str | None = None,
    show: str | None = None,
    branches: Sequence[int] | None = None,
) -> Readout:
    """Read the probability of each named answer at the first token of the next turn.

    Args:
        model: The model.
        messages: The conversation.
        plan: What is steered; made from these very messages.
        answers: For each name the strings that count as it, white space aside.
        tools: The tools that the conversation is rendered with.
        library: Folder of the vector library; None for the one that fits the model.
        branches: Messages at which readings that share a beginning part ways (`SteeringRequest.branches`).
        show: If given, every token of the prompt is written to the transcript under this title, the steered ones marked.

    Raises:
        ValueError: The conversation does not fit the model's context.
    """
    request = SteeringRequest(
        plan=plan,
        library=library,
        readout={name: list(strings) for name, strings in answers.items()},
        show_tokens=show is not None,
        branches=None if branches is None else tuple(branches),
    )
    config = request.config(GenerateConfig(max_tokens=1, temperature=0.0))
    output = await model.generate(list(messages), tools=list(tools), config=config)
    if output.stop_reason == "model_length":
        raise ValueError(f"the conversation does not fit: {output.error}; use a shorter primer or fewer options")
    report = steering_report(output)
    if show is not None:
        page = steering_map(report["tokens"], [message.role for message in messages], report["receipts"])
        transcript().info(page, source=show)
    cost = Cost(
        computed_tokens=report["computed_tokens"], prompt_tokens=report["computed_tokens"] + report["reused_tokens"]
    )
    return Readout(logprobs=dict(report["readout"]), receipts=list(report["receipts"]), cost=cost, output=output)


def library_card(model: Model, library: str | None) -> LibraryCard:
    """Return the card of the library that a model is steered from.

    Raises:
        TypeError: The model is not one of ours and cannot be steered.
    """
    if not hasattr(model.api, "library"):
        raise TypeError(f"{model} cannot be steered; run this with --model nnsight/MODEL")
    card: LibraryCard = model.api.library(library).card
    return card


def smallest_dose(model: Model, library: str | None, names: Iterable[str]) -> float:
    """Return the smallest dose that has an effect at the model's precision, whichever of `names` is taken.

    Raises:
        TypeError: The model is not one of ours and cannot be steered.
    """
    library_card(model, library)
    assert hasattr(model.api, "smallest_dose")
    return float(model.api.smallest_dose(library, names))


def default_dose(model: Model, library: str | None, vector: str) -> float:
    """Return the multiple of `vector` that dose 1.0 adds, from the library's card.

    Raises:
        ValueError: The library has no such vector.
    """
    doses = library_card(model, library).default_doses
    if vector not in doses:
        raise ValueError(f"the library has no vector {vector!r}; it has {', '.join(sorted(doses))}")
    return float(doses[vector])
