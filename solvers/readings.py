"""A page for a reader of the transcript: every token of a prompt, and what steered it."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, Self

from inspect_ai.log import transcript
from inspect_ai.model import ChatMessage, GenerateConfig, Model, ModelOutput
from inspect_ai.tool import ToolInfo
from pydantic import BaseModel, model_validator

from self_steering.steering.operations import in_words
from self_steering.steering.plan import Direction, Plan, Treatment, Window
from self_steering.steering.request import SteeringRequest, steering_report
from self_steering.steering.tools import taken_text, told_take, told_takes
from self_steering.vectors.card import NO_NEUTRAL, LibraryCard, LibraryError

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
        f"- **{receipt['label']}**: {_how(receipt)} at layers {receipt['layers'][0]}–{receipt['layers'][-1]}, "
        f"positions {receipt['start']} to {receipt['stop']}: {receipt['planned']} planned, {receipt['steered']} steered"
        f"{moved} at layer {receipt['monitor_layer']}"
    )


def _how(receipt: Mapping[str, Any]) -> str:
    """Return what a receipt's operation is; of an addition its strength."""
    operation, strength = receipt.get("operation", "add"), receipt["strength"]
    return f"strength {strength:g}" if operation == "add" else in_words(operation, strength, receipt.get("target"))


# Inside a code span nothing but a backtick or the end of a line is special; the rest is only made visible.
_SHOWN = {"`": "ˋ", "\n": "⏎", " ": "·", "\t": "⇥", "\r": "␍"}


def _visible(text: str) -> str:
    shown = (_SHOWN.get(c) or (c if c.isprintable() else f"\\u{ord(c):04x}") for c in text)
    return "".join(shown) or "∅"


Arm = Literal["real", "placebo", "random", "other", "opposite", "mislabelled", "prompt_only"]
# What the arms of the other experiments are: of self-steering sessions, of injections into a script, of free descriptions.
SessionArm = Literal["real", "placebo", "random", "mislabelled"]
InjectionArm = Literal["real", "placebo", "random"]
DetectionArm = Literal["real", "placebo", "random", "tampered"]
ReliefArm = Literal["real", "placebo", "random", "opposite", "positive", "prompt_only"]
PreferenceArm = Literal["real", "placebo", "random", "opposite"]
FreeTextArm = Literal["real", "placebo", "random", "other"]
# Nothing is steered, and the effect is told in words: with a model that cannot be steered it is a simulation.
PROMPT_ONLY: Literal["prompt_only"] = "prompt_only"
FreeplayArm = Literal["real", "placebo", "random", "mislabelled", "prompt_only"]
UNSTEERED_ARMS: frozenset[Arm | DetectionArm | ReliefArm] = frozenset({"placebo", "prompt_only", "tampered"})
# A conversation is read with its windows, and with none.
ReadingName = Literal["cached", "uncached"]
CACHED, UNCACHED = "cached", "uncached"


def treatment(
    arm: Arm | DetectionArm | ReliefArm,
    applied: str,
    unit: float,
    random_seed: int | None = None,
    random_index: int = 0,
    apart_from: Sequence[str] = (),
) -> Treatment:
    """Return what an arm adds to the residual stream.

    real, other, positive and mislabelled add the vector that the experiment says is applied; opposite adds it with its sign turned;
    random adds a random direction of its norm; placebo, prompt_only and tampered add it at strength zero, which changes nothing.

    Args:
        arm: The arm.
        applied: The vector that is applied, or whose norm the random direction takes.
        unit: Multiple of it that dose 1.0 adds.
        random_seed: Seed of the set of random directions; used in the random arm only.
        random_index: Which of the set.
        apart_from: Vectors with which what is applied is to have nothing in common.
    """
    strength = 0.0 if arm in UNSTEERED_ARMS else -unit if arm == "opposite" else unit
    if arm == "random":
        direction = Direction(vector=applied, random_seed=random_seed, random_index=random_index)
    else:
        direction = Direction(vector=applied, apart_from=tuple(apart_from))
    return Treatment(direction=direction, unit_strength=strength)


class SteeringError(RuntimeError):
    """What a model was told, what was planned and what was done differ: such a sample is no evidence."""


def check_realised(windows: Sequence[Window], receipts: Sequence[Mapping[str, Any]]) -> None:
    """Make sure that exactly what was planned was done.

    Raises:
        SteeringError: Windows and receipts differ in number, label, operation, strength or tokens.
    """
    planned = [_done(window.label, window.operation, window.strength) for window in windows]
    done = [_done(one["label"], one.get("operation", "add"), one["strength"]) for one in receipts]
    done = [
        text if one["planned"] == one["steered"] else f"{text} over {one['steered']} of {one['planned']} positions"
        for text, one in zip(done, receipts, strict=True)
    ]
    if planned != done:
        raise SteeringError(f"planned: {', '.join(planned) or 'nothing'}; done: {', '.join(done) or 'nothing'}")


def realised(plan: Plan, output: ModelOutput) -> dict[str, Any]:
    """Return what the provider reports of a generation in which what was planned was done.

    Raises:
        ValueError: The conversation does not fit the model's context.
        SteeringError: Something else was done than was planned.
    """
    if output.error:
        raise ValueError(
            f"the conversation does not fit: {output.error}; use fewer or shorter messages, options or answers"
        )
    report = steering_report(output)
    check_realised(plan.windows, report["receipts"])
    return report


def _done(label: str, operation: str, strength: float) -> str:
    return f"{label}{'' if operation == 'add' else f', {operation},'} at strength {strength:g}"


def check_told(messages: Sequence[ChatMessage], windows: Sequence[Window]) -> None:
    """Make sure that the takes which the model was told to have succeeded are those that are planned.

    Raises:
        SteeringError: They are not.
    """
    told = told_takes(messages)
    planned = [told_take(taken_text(one.label, one.dose, operation=one.operation)) or one.label for one in windows]
    if told != planned:
        raise SteeringError(
            f"the model was told that it took {', '.join(told) or 'nothing'}, and what is planned is "
            f"{', '.join(planned) or 'nothing'}: every take call needs its own answer of the take tool in the conversation"
        )


class Cost(BaseModel):
    """What a read-out took.

    Attributes:
        computed_tokens: Tokens that were computed for it.
        prompt_tokens: Tokens of its prompt, those found in the cache among them.
    """

    computed_tokens: int
    prompt_tokens: int

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> Self:
        """Return what one generation took, from the provider's report."""
        computed = report["computed_tokens"]
        return cls(computed_tokens=computed, prompt_tokens=computed + report["reused_tokens"])


class Reading(BaseModel):
    """One read-out, one sampled answer, or one turn that the model wrote, as solvers leave it in the log.

    Attributes:
        name: How the conversation was steered in it; `uncached` is without any window.
        kind: What the question is asked for.
        item: What was asked, the same in all orders of the answers.
        shift: By how many places the options were rotated.
        direction: Which of several random directions was applied.
        logprobs: For each answer its log-probability over the full vocabulary, in all token forms; empty where text was sampled
            instead.
        strengths: Strength of each window that was planned, in order.
        doses: What that is in doses (`doses_of`), in order; none in earlier logs.
        receipts: What the engine did, one entry a window.
        cost: What it took.
    """

    name: str
    kind: str = ""
    item: str = ""
    shift: int = 0
    direction: int | None = None
    logprobs: dict[str, float] = {}
    strengths: list[float]
    doses: list[float] = []
    receipts: list[dict[str, Any]]
    cost: Cost

    @classmethod
    def sampled(cls, name: str, plan: Plan, output: ModelOutput, doses: list[float], **more: str) -> Self:
        """Return what a generation left that wrote text, and was not read.

        Raises:
            ValueError: The conversation does not fit the model's context.
        """
        report = realised(plan, output)
        strengths = [window.strength for window in plan.windows]
        done = {"strengths": strengths, "doses": doses, "receipts": report["receipts"], "cost": Cost.of(report)}
        return cls.model_validate({"name": name, **done, **more})

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_logs(cls, data: Any) -> Any:
        """Read what earlier logs hold: of introspection how many windows there were; of free text each turn's plan and tokens."""
        if not isinstance(data, dict) or "strengths" in data:
            return data
        if "windows" in data:
            return {**data, "strengths": [math.nan] * data["windows"]}
        if "plan" in data:
            return {**data, "strengths": [one["strength"] for one in data["plan"].get("windows", [])], "cost": data}
        return data


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
        TypeError: Something is to be steered, and the model cannot be.
        ValueError: The conversation does not fit the model's context.
    """
    if not steerable(model):
        return await _said_answer(model, messages, plan, answers, tools)
    request = SteeringRequest(
        plan=plan,
        library=library,
        readout={name: list(strings) for name, strings in answers.items()},
        show_tokens=show is not None,
        picture=show is not None,
        branches=None if branches is None else tuple(branches),
    )
    config = request.config(GenerateConfig(max_tokens=1, temperature=0.0))
    output = await model.generate(list(messages), tools=list(tools), config=config)
    report = realised(plan, output)
    if show is not None:
        if picture := report.get("picture"):
            transcript().info(picture, source=f"what was steered, {show.rpartition(', ')[2]}")
        page = steering_map(report["tokens"], [message.role for message in messages], report["receipts"])
        transcript().info(page, source=show)
    return Readout(dict(report["readout"]), list(report["receipts"]), Cost.of(report), output)


# A model that cannot be steered says which of its likeliest tokens is an answer, or else a few words that begin with one.
_LIKELIEST, _WORDS = 20, 8
NOT_GIVEN = -30.0  # log-probability of an answer that it did not give


async def _said_answer(
    model: Model,
    messages: Sequence[ChatMessage],
    plan: Plan,
    answers: Mapping[str, Sequence[str]],
    tools: Sequence[ToolInfo],
) -> Readout:
    """Read the answer of a model that cannot be steered; without log-probabilities where it gives none."""
    if plan.windows:
        raise TypeError(_NOT_STEERABLE.format(model=model))
    config = GenerateConfig(max_tokens=_WORDS, temperature=0.0, logprobs=True, top_logprobs=_LIKELIEST)
    output = await model.generate(list(messages), tools=list(tools), tool_choice="none", config=config)
    content = output.choices[0].logprobs.content if output.choices and output.choices[0].logprobs else []
    likely = (content[0].top_logprobs or []) if content else []
    mass = {
        name: sum(math.exp(one.logprob) for one in likely if one.token.strip() in strings)
        for name, strings in answers.items()
    }
    if not any(mass.values()):
        # A letter that goes on as a sentence is a word: “I cannot say.”
        first = re.match(r"\W*(\w+)(?:\W*$|[.):])", output.completion)
        mass = {name: float(first is not None and first[1] in strings) for name, strings in answers.items()}
    found = (
        {name: math.log(value) if value else NOT_GIVEN for name, value in mass.items()} if any(mass.values()) else {}
    )
    tokens = output.usage.input_tokens if output.usage else 0
    return Readout(found, [], Cost(computed_tokens=tokens, prompt_tokens=tokens), output)


def steerable(model: Model) -> bool:
    """Return whether a model can be steered."""
    return hasattr(model.api, "library")


def simulated(arm: str, model: Model) -> bool:
    """Return whether an arm is a simulation: a model that cannot be steered is told in words what it would be steered by."""
    return arm == PROMPT_ONLY and not steerable(model)


_NOT_STEERABLE = (
    "{model} cannot be steered; run this with --model nnsight/MODEL, or, where the task has that arm, as a simulation in words "
    "with -T arm=prompt_only"
)


def library_card(model: Model, library: str | None) -> LibraryCard:
    """Return the card of the library that a model is steered from.

    Raises:
        TypeError: The model is not one of ours and cannot be steered.
    """
    if not steerable(model):
        raise TypeError(_NOT_STEERABLE.format(model=model))
    card: LibraryCard = model.api.library(library).card  # type: ignore[attr-defined]  # by the line above
    return card


def check_neutral(model: Model, library: str | None) -> None:
    """Refuse a library from which a projection cannot be held.

    Raises:
        LibraryError: It has no neutral mean.
        TypeError: The model is not one of ours and cannot be steered.
    """
    card = library_card(model, library)
    if model.api.library(library).neutral is None:  # type: ignore[attr-defined]  # by the line above
        raise LibraryError(NO_NEUTRAL.format(model=card.model))


def smallest_dose(model: Model, library: str | None, names: Iterable[str]) -> float:
    """Return the smallest dose that has an effect at the model's precision, whichever of `names` is taken.

    Raises:
        TypeError: The model is not one of ours and cannot be steered.
    """
    library_card(model, library)
    assert hasattr(model.api, "smallest_dose")
    return float(model.api.smallest_dose(library, names))


def gauge_scale(model: Model, library: str | None, direction: Direction) -> tuple[float, float]:
    """Return where neutral text lies on a direction at its monitor layer, and what one multiple of it adds there.

    Raises:
        LibraryError: The library has no neutral mean, or the direction no scale.
        TypeError: The model is not one of ours and cannot be steered.
    """
    library_card(model, library)
    scale: tuple[float, float] = model.api.gauge_scale(library, direction)  # type: ignore[attr-defined]  # by the line above
    return scale


def default_dose(model: Model, library: str | None, vector: str) -> float:
    """Return the multiple of `vector` that dose 1.0 adds, from the library's card.

    Raises:
        ValueError: The library has no such vector.
    """
    doses = library_card(model, library).default_doses
    if vector not in doses:
        raise ValueError(f"the library has no vector {vector!r}; it has {', '.join(sorted(doses))}")
    return float(doses[vector])


def doses_of(model: Model, library: str | None, windows: Sequence[Window]) -> list[float]:
    """Return the size of what each window adds, in the library's default doses of its vector, or of the one whose norm it has.

    At strength zero it is 0, whatever dose the conversation speaks of. A vector without a default dose counts by itself.

    Raises:
        TypeError: Something is added, and the model is not one of ours and cannot be steered.
    """
    if not any(window.strength for window in windows):
        return [0.0] * len(windows)
    units = library_card(model, library).default_doses
    return [abs(window.strength / (units.get(window.direction.vector) or 1.0)) for window in windows]
