"""The scripted read-out: a vector is given, cleared, and the model is asked which one it was.

Every assistant turn up to the answer is inserted, so no word of the model's own can give the vector away. The same
conversation is read twice, with its window applied (cached) and with no window at all (uncached), each with the options in
several rotations; what is read is the probability of each option's letter at the first token of the answer.
"""

from collections.abc import Sequence
from string import ascii_uppercase
from typing import Any, Literal

from inspect_ai.log import transcript
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
    GenerateConfig,
    Model,
    ModelOutput,
    get_model,
)
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.tool import ToolCall
from inspect_ai.util import StoreModel, span
from pydantic import BaseModel, Field

from self_steering.solvers import introspection_prompts as prompts
from self_steering.solvers.steering_map import steering_map
from self_steering.steering.framings import CLEAR_TOOL, FRAMINGS, FramingName
from self_steering.steering.plan import Direction, Plan, Treatment, plan_windows
from self_steering.steering.request import SteeringRequest, steering_report
from self_steering.steering.tools import CLEARED_TEXT, taken_text, tool_infos
from self_steering.vectors.catalogue import catalogue

Arm = Literal["real", "placebo", "random", "other"]
ReadingName = Literal["cached", "uncached"]


class Trial(BaseModel):
    """What is done in one sample; it lies in the sample's metadata.

    Attributes:
        vector: The true option.
        arm: real applies `vector`; placebo applies it at strength zero; random applies a random direction of its norm;
            other applies another vector, while the true option stays `vector`.
        applied: The vector that is applied, or whose norm the random direction takes.
        random_seed: Seed of the random direction, in the random arm only.
        options: All options, the true one among them, in their unrotated order.
        dose: What the model is told it takes.
        primer: Which primer stands in the system prompt.
        framing: Which words are used.
    """

    vector: str
    arm: Arm
    applied: str
    random_seed: int | None = None
    options: list[str]
    dose: float
    primer: str
    framing: FramingName

    def treatment(self, default_dose: float) -> Treatment:
        """Return what taking the opaque label does, given the applied vector's default dose."""
        return Treatment(
            direction=Direction(vector=self.applied, random_seed=self.random_seed),
            unit_strength=0.0 if self.arm == "placebo" else default_dose,
        )


class Reading(BaseModel):
    """One read-out.

    Attributes:
        name: cached or uncached.
        shift: By how many places the options were rotated.
        logprobs: For each option, the log-probability of its letter over the full vocabulary, in all token forms.
        receipts: What the engine did, one entry a window.
        computed_tokens: Tokens that were computed for it.
        reused_tokens: Prompt tokens that were found in the cache.
    """

    name: ReadingName
    shift: int
    logprobs: dict[str, float]
    receipts: list[dict[str, Any]]
    computed_tokens: int
    reused_tokens: int


class IntrospectionState(StoreModel):
    """What the solver leaves for the scorer."""

    readings: list[Reading] = Field(default_factory=list)
    strength: float | None = None


@solver
def introspect(rotations: int = 2, library: str | None = None) -> Solver:
    """Run the scripted conversation and read the options' probabilities, cached and uncached.

    Args:
        rotations: In how many rotations the options are asked; as many as options cancels every letter bias.
        library: Folder of the vector library; default the shipped one that fits the model.
    """

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        model = get_model()
        trial = Trial.model_validate(state.metadata)
        treatment = trial.treatment(default_dose(model, library, trial.applied))
        script = scripted_conversation(trial)
        result = IntrospectionState(store=state.store)
        result.strength = treatment.unit_strength * trial.dose
        readings: list[Reading] = []
        names: tuple[ReadingName, ...] = ("cached", "uncached")
        for name in names:
            async with span(f"{name} reading"):
                for index, shift in enumerate(rotation_shifts(len(trial.options), rotations)):
                    options = trial.options[shift:] + trial.options[:shift]
                    messages = [*script, question(options)]
                    plan = plan_windows(messages, {prompts.OPAQUE_LABEL: treatment})
                    plan = plan if name == "cached" else plan.without_windows()
                    output = await _read(model, trial, messages, plan, library, show=index == 0)
                    reading = _reading(name, shift, options, output)
                    readings.append(reading)
                    if index == 0:
                        _show(name, trial, messages, output, reading)
                    if index == 0 and name == "cached":
                        state.messages, state.output = [*messages, output.message], output
        result.readings = readings
        return state

    return solve


def default_dose(model: Model, library: str | None, vector: str) -> float:
    """Return the multiple of `vector` that dose 1.0 adds, from the library's card.

    Raises:
        TypeError: The model is not one of ours and cannot be steered.
    """
    if not hasattr(model.api, "library"):
        raise TypeError(f"{model} cannot be steered; run this with --model nnsight/MODEL")
    card = model.api.library(library).card
    if vector not in card.default_doses:
        raise ValueError(f"the library has no vector {vector!r}; it has {', '.join(sorted(card.default_doses))}")
    return float(card.default_doses[vector])


def rotation_shifts(options: int, rotations: int) -> list[int]:
    """Return by how many places to rotate the options, evenly spread.

    Raises:
        ValueError: There are more rotations than options, or none.
    """
    if not 1 <= rotations <= options:
        raise ValueError(f"rotations={rotations}; choose 1 to {options}, the number of options")
    return [round(index * options / rotations) for index in range(rotations)]


def scripted_conversation(trial: Trial) -> list[ChatMessage]:
    """Return the conversation up to, and without, the question."""
    words = FRAMINGS[trial.framing]
    label = prompts.OPAQUE_LABEL
    fill = {"label": label, "a_noun": f"{words.article} {words.noun}", "nouns": words.plural}
    system = prompts.SYSTEM.format(**fill)
    if primer := prompts.PRIMERS[trial.primer]:
        system = f"{system}\n\n{primer}"
    take = ToolCall(id="take", function=words.take_tool, arguments={"name": label, "dose": trial.dose})
    clear = ToolCall(id="clear", function=CLEAR_TOOL, arguments={})
    return [
        ChatMessageSystem(content=system),
        ChatMessageUser(content=prompts.ANNOUNCE.format(**fill)),
        ChatMessageAssistant(content="", tool_calls=[take]),
        ChatMessageTool(content=taken_text(label, trial.dose), tool_call_id=take.id, function=take.function),
        ChatMessageUser(content=prompts.ASK_PLACEHOLDER.format(placeholder=prompts.PLACEHOLDER)),
        ChatMessageAssistant(content=prompts.PLACEHOLDER),
        ChatMessageUser(content=prompts.ANNOUNCE_CLEAR.format(**fill)),
        ChatMessageAssistant(content="", tool_calls=[clear]),
        ChatMessageTool(content=CLEARED_TEXT, tool_call_id=clear.id, function=clear.function),
    ]


def question(options: Sequence[str]) -> ChatMessageUser:
    """Return the multiple choice over `options`, lettered in the order given."""
    entries = catalogue()
    lines = (
        f"{letter}. {name}: {entries[name].effect}" for letter, name in zip(ascii_uppercase, options, strict=False)
    )
    return ChatMessageUser(content=prompts.QUESTION.format(label=prompts.OPAQUE_LABEL, options="\n".join(lines)))


async def _read(
    model: Model, trial: Trial, messages: list[ChatMessage], plan: Plan, library: str | None, show: bool
) -> ModelOutput:
    letters = ascii_uppercase[: len(trial.options)]
    request = SteeringRequest(
        plan=plan, library=library, readout={letter: [letter] for letter in letters}, show_tokens=show
    )
    config = request.config(GenerateConfig(max_tokens=1, temperature=0.0))
    return await model.generate(messages, tools=tool_infos(trial.framing), config=config)


def _reading(name: ReadingName, shift: int, options: Sequence[str], output: ModelOutput) -> Reading:
    if output.stop_reason == "model_length":
        raise ValueError(f"the conversation does not fit: {output.error}; use a shorter primer or fewer options")
    metadata = steering_report(output)
    by_letter = metadata["readout"]
    return Reading(
        name=name,
        shift=shift,
        logprobs={option: by_letter[letter] for letter, option in zip(ascii_uppercase, options, strict=False)},
        receipts=metadata["receipts"],
        computed_tokens=metadata["computed_tokens"],
        reused_tokens=metadata["reused_tokens"],
    )


def _show(
    name: ReadingName, trial: Trial, messages: Sequence[ChatMessage], output: ModelOutput, reading: Reading
) -> None:
    """Write to the transcript what was steered where, and what probability went where."""
    metadata = steering_report(output)
    transcript().info(
        steering_map(metadata["tokens"], [message.role for message in messages], reading.receipts),
        source=f"steering map, {name} reading",
    )
    transcript().info(
        {"true option": trial.vector, "log-probability of each option's letter": dict(reading.logprobs)},
        source=f"options, {name} reading, first rotation",
    )
