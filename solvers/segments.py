"""Conversations in which single messages are steered, and questions about them, read with and without their windows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp

from inspect_ai.log import transcript
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    Model,
    ModelOutput,
    get_model,
)
from inspect_ai.solver import TaskState
from inspect_ai.tool import ToolInfo
from inspect_ai.util import StoreModel, span
from pydantic import BaseModel, Field

from self_steering.solvers.prompts.segments import ACKNOWLEDGED
from self_steering.solvers.readings import UNCACHED, DetectionArm, Reading, doses_of, read_answers, treatment
from self_steering.steering.plan import Plan, Treatment, Window


class Injection(BaseModel):
    """What is applied in one sample.

    Attributes:
        vector: The vector, or the one whose norm the random direction takes.
        arm: real applies the vector; placebo applies it at strength zero; random applies a random direction of its norm; in
            detection there is tampered too, which changes the text and applies nothing.
        random_seed: Seed of the random direction, in the random arm only.
    """

    vector: str
    arm: DetectionArm
    random_seed: int | None = None

    def treatment(self, default_dose: float) -> Treatment:
        """Return what dose 1.0 adds, given the vector's default dose."""
        return treatment(self.arm, self.vector, default_dose, self.random_seed)

    def window(self, message: int, dose: float, default_dose: float) -> Window:
        """Return a window over exactly one message."""
        added = self.treatment(default_dose)
        return Window(
            label=added.direction.label,
            direction=added.direction,
            dose=dose,
            strength=dose * added.unit_strength,
            start=message,
            stop=message + 1,
        )


@dataclass(frozen=True)
class Question:
    """A question at the end of a conversation.

    Attributes:
        kind: What it is asked for.
        item: What is asked, the same in all orders of the answers.
        text: The message as it is sent.
        answers: For each answer the strings that count as it.
    """

    kind: str
    item: str
    text: str
    answers: Mapping[str, Sequence[str]]


class StretchState(StoreModel):
    """What the solver leaves for the scorer.

    Attributes:
        readings: All read-outs.
        sampled: The sampled answer, where there is one.
    """

    readings: list[Reading] = Field(default_factory=list)
    sampled: str | None = None


def numbered_turns(system: str, opening: str, texts: Sequence[str]) -> tuple[list[ChatMessage], list[int]]:
    """Return a conversation that shows one text a user message, and the index of each text's message.

    Every text is acknowledged, so that turns alternate and a window over one message covers nothing else.
    """
    messages: list[ChatMessage] = [ChatMessageSystem(content=system)]
    for text in (opening, *texts):
        messages += [ChatMessageUser(content=text), ChatMessageAssistant(content=ACKNOWLEDGED)]
    return messages, [3 + 2 * index for index in range(len(texts))]


async def read_questions(
    model: Model,
    name: str,
    script: Sequence[ChatMessage],
    windows: Sequence[Window],
    questions: Sequence[Question],
    *,
    steered_from: int,
    tools: Sequence[ToolInfo] = (),
    library: str | None = None,
) -> tuple[list[Reading], list[ChatMessage], ModelOutput]:
    """Ask each question at the end of the same conversation, and read its answers.

    The transcript gets the steering map of the first question, and a line a question with the probability of each answer.

    Args:
        model: The model.
        name: Name of the readings.
        script: The conversation up to the questions.
        windows: What is steered, all within `script`; none for the uncached reading.
        questions: The questions, each asked alone.
        steered_from: First message that any reading of this script steers. What stands before it is computed once for all of
            them, and what follows up to the questions once a reading.
        tools: The tools that the conversation is rendered with.
        library: Folder of the vector library; None for the one that fits the model.

    Returns:
        The readings, the first question's messages, and the output that it got.
    """
    readings: list[Reading] = []
    first: tuple[list[ChatMessage], ModelOutput] | None = None
    async with span(f"{name} reading"):
        for question in questions:
            messages = [*script, ChatMessageUser(content=question.text)]
            plan = Plan(messages=len(messages), windows=tuple(windows))
            show = f"steering map, {name} reading" if first is None else None
            found = await read_answers(
                model,
                messages,
                plan,
                question.answers,
                tools=tools,
                library=library,
                branches=[steered_from, len(script)],
                show=show,
            )
            first = first or (messages, found.output)
            readings.append(
                Reading(
                    name=name,
                    kind=question.kind,
                    item=question.item,
                    logprobs=found.logprobs,
                    strengths=[window.strength for window in windows],
                    doses=doses_of(model, library, windows),
                    receipts=found.receipts,
                    cost=found.cost,
                )
            )
        lines = [_line(question, reading) for question, reading in zip(questions, readings, strict=True)]
        transcript().info("\n".join(lines), source=f"probability of each answer, {name} reading")
    if first is None:
        raise ValueError("no questions; give at least one")
    return readings, *first


async def read_script(
    state: TaskState,
    script: Sequence[ChatMessage],
    steerings: Mapping[str, Sequence[Window]],
    questions: Sequence[Question],
    *,
    tools: Sequence[ToolInfo] = (),
    library: str | None = None,
) -> StretchState:
    """Read the same questions at the end of one conversation, steered in several ways and then not at all.

    The sample ends with the first question of the first reading.

    Args:
        state: The sample; its messages and output are set.
        script: The conversation up to the questions.
        steerings: For each reading's name what is steered, all within `script`.
        questions: The questions, each asked alone.
        tools: The tools that the conversation is rendered with.
        library: Folder of the vector library; None for the one that fits the model.

    Returns:
        What the sample's scorer reads.
    """
    result = StretchState(store=state.store)
    first = min(window.start for windows in steerings.values() for window in windows)
    readings: list[Reading] = []
    for name, windows in {**steerings, UNCACHED: ()}.items():
        found, asked, output = await read_questions(
            get_model(), name, script, windows, questions, steered_from=first, tools=tools, library=library
        )
        if not readings:
            state.messages, state.output = [*asked, output.message], output
        readings += found
    result.readings = readings
    return result


def _line(question: Question, reading: Reading) -> str:
    found = {answer: exp(value) for answer, value in reading.logprobs.items()}
    answers = ", ".join(f"{answer} {value:.4f}" for answer, value in found.items())
    asked = question.text.replace("\n", " ")
    return f"- {question.kind}: “{asked}” → {answers}; together {sum(found.values()):.4f} of the full vocabulary"
