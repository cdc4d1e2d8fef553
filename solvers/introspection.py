"""The scripted read-out: a vector is given, cleared, and the model is asked which one it was.

Every assistant turn up to the answer is inserted, so no word of the model's own can give the vector away. The same
conversation is read twice, with its window applied (cached) and with no window at all (uncached), each with the options in
several rotations; what is read is the probability of each option's letter at the first token of the answer.
"""

from collections.abc import Iterator, Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from inspect_ai.log import transcript
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
    Model,
    get_model,
)
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.tool import ToolCall
from inspect_ai.util import StoreModel, span
from pydantic import BaseModel, Field

from self_steering.solvers.debrief import Account
from self_steering.solvers.imposed import Imposition
from self_steering.solvers.prompts import introspection as prompts
from self_steering.solvers.readings import (
    PROMPT_ONLY,
    Arm,
    Reading,
    ReadingName,
    Readout,
    check_told,
    default_dose,
    doses_of,
    read_answers,
    simulated,
    treatment,
)
from self_steering.steering.calls import CLEAR_TOOL, FRAMINGS, FramingName
from self_steering.steering.plan import Plan, Site, Treatment, Window, at_site, plan_windows
from self_steering.steering.tools import CLEARED_TEXT, taken_text, tool_infos
from self_steering.vectors.catalogue import NO_OWN, Own, VectorEntry, entry_of

# Place of the tool's answer to the take call in the script.
_ANSWER = 3


class Trial(BaseModel):
    """What is done in one sample; it lies in the sample's metadata.

    Attributes:
        vector: The true option.
        arm: real applies `vector`; placebo applies it at strength zero; random applies random directions of its norm, one
            after the other; other applies another vector, while the true option stays `vector`; opposite applies it with
            its sign turned; mislabelled applies it under the name of a wrong option; prompt_only applies nothing and lets
            the tool tell its effect in words.
        applied: The vector that is applied, or whose norm the random directions take.
        label: What it is called in the conversation.
        random_seed: Seed of the set of random directions, in the random arm only.
        random_directions: How many of them are applied.
        options: All options, the true one among them, in their unrotated order.
        own: What the library says of options that the catalogue lacks or tells otherwise.
        dose: What the model is told it takes.
        primer: Which primer stands in the system prompt.
        framing: Which words are used.
        wording: Which wording of the script is used.
        site: Whose messages within the window are steered.
    """

    vector: str
    arm: Arm
    applied: str
    label: str = prompts.OPAQUE_LABEL
    random_seed: int | None = None
    random_directions: int = 0
    options: list[str]
    own: dict[str, VectorEntry] = {}
    dose: float
    primer: str
    framing: FramingName
    wording: int = 0
    site: Site = "both"

    def treatments(self, unit: float) -> list[Treatment]:
        """Return what taking the label does, given the applied vector's default dose; one entry a direction."""
        directions = self.random_directions if self.arm == "random" else 1
        return [treatment(self.arm, self.applied, unit, self.random_seed, index) for index in range(directions)]


class IntrospectionState(StoreModel):
    """What the solver leaves for the scorer."""

    readings: list[Reading] = Field(default_factory=list)
    strength: float | None = None
    simulated: bool = False


@solver
def introspect(rotations: int = 2, library: str | None = None) -> Solver:
    """Run the scripted conversation and read the options' probabilities, cached and uncached.

    In the random arm every direction is read in one rotation, in turn. The uncached reading is that of the same text, but for
    prompt_only: there it is the text without the effect told.

    Args:
        rotations: In how many rotations the options are asked; as many as options cancels every letter bias.
        library: Folder of the vector library; default the shipped one that fits the model.
    """

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        model = get_model()
        trial = Trial.model_validate(state.metadata)
        told = simulated(trial.arm, model)
        treatments = trial.treatments(0.0 if told else default_dose(model, library, trial.applied))
        shifts = rotation_shifts(len(trial.options), rotations)
        result = IntrospectionState(store=state.store)
        result.strength, result.simulated = treatments[0].unit_strength * trial.dose, told
        readings: list[Reading] = []
        async with span("cached reading"):
            for number, (direction, treatment, shift) in enumerate(cached_readings(trial, treatments, shifts)):
                reading, messages, output = await _read(
                    model, trial, "cached", shift, treatment, library, show=number == 0
                )
                reading.direction = direction
                readings.append(reading)
                if number == 0:
                    state.messages, state.output = [*messages, output.output.message], output.output
        async with span("uncached reading"):
            for number, shift in enumerate(shifts):
                readings.append((await _read(model, trial, "uncached", shift, None, library, show=number == 0))[0])
        result.readings = readings
        return state

    return solve


def introspection_imposes(
    model: Model, metadata: Mapping[str, Any], *, rotations: int, library: str | None
) -> Iterator[Imposition]:
    """Yield what is imposed in a sample: the script, as often as it is read with its window."""
    trial = Trial.model_validate(metadata)
    if simulated(trial.arm, model):
        return
    treatments = trial.treatments(default_dose(model, library, trial.applied))
    readings = len(list(cached_readings(trial, treatments, rotation_shifts(len(trial.options), rotations))))
    script = scripted_conversation(trial)
    yield Imposition(script, _first_windows(trial, script, model, library), readings, tool_infos(trial.framing))


def introspection_account(
    model: Model, metadata: Mapping[str, Any], messages: Sequence[ChatMessage], *, library: str | None
) -> Account:
    """Return what the debrief asks: whether something acted under the label; in the random arm, the first direction."""
    trial = Trial.model_validate(metadata)
    script = scripted_conversation(trial)
    windows = () if simulated(trial.arm, model) else _first_windows(trial, script, model, library)
    return Account.of_labels(script, windows, [trial.label], tool_infos(trial.framing))


def _first_windows(
    trial: Trial, script: Sequence[ChatMessage], model: Model, library: str | None
) -> tuple[Window, ...]:
    """Return what steers the script in the first reading."""
    treatment = trial.treatments(default_dose(model, library, trial.applied))[0]
    return at_site(plan_windows(script, {trial.label: treatment}), script, trial.site).windows


def cached_readings(
    trial: Trial, treatments: Sequence[Treatment], shifts: Sequence[int]
) -> Iterator[tuple[int | None, Treatment, int]]:
    """Yield (number of the random direction, treatment, rotation) of each cached reading."""
    if trial.arm == "random":
        for index, treatment in enumerate(treatments):
            yield index, treatment, shifts[index % len(shifts)]
    else:
        for shift in shifts:
            yield None, treatments[0], shift


def rotation_shifts(options: int, rotations: int) -> list[int]:
    """Return by how many places to rotate the options, evenly spread.

    Raises:
        ValueError: There are more rotations than options, or none.
    """
    whole = isinstance(rotations, int) and not isinstance(rotations, bool)
    if not whole or not 1 <= rotations <= options:
        raise ValueError(f"rotations={rotations!r}; choose 1 to {options}, the number of options")
    return [round(index * options / rotations) for index in range(rotations)]


def scripted_conversation(trial: Trial, told: bool | None = None) -> list[ChatMessage]:
    """Return the conversation up to, and without, the question.

    Args:
        trial: The trial.
        told: Whether the tool tells the effect in words; default in the prompt_only arm only.
    """
    words, wording, label = FRAMINGS[trial.framing], prompts.WORDINGS[trial.wording], trial.label
    fill = {
        "label": label,
        "a_noun": f"{words.article} {words.noun}",
        "nouns": words.plural,
        "secret": prompts.UNTOLD if label == prompts.OPAQUE_LABEL else "",
        "placeholder": prompts.PLACEHOLDER,
    }
    system = prompts.SYSTEM.format(**fill)
    if primer := prompts.PRIMERS[trial.primer]:
        system = f"{system}\n\n{primer}"
    told = trial.arm == PROMPT_ONLY if told is None else told
    answer = taken_text(label, trial.dose, entry_of(trial.vector, trial.own).effect if told else None)
    take = ToolCall(id="take", function=words.take_tool, arguments={"name": label, "dose": trial.dose})
    clear = ToolCall(id="clear", function=CLEAR_TOOL, arguments={})
    return [
        ChatMessageSystem(content=system),
        ChatMessageUser(content=wording.announce.format(**fill)),
        ChatMessageAssistant(content="", tool_calls=[take]),
        ChatMessageTool(content=answer, tool_call_id=take.id, function=take.function),
        ChatMessageUser(content=wording.placeholder.format(**fill)),
        ChatMessageAssistant(content=prompts.PLACEHOLDER),
        ChatMessageUser(content=wording.clear.format(**fill)),
        ChatMessageAssistant(content="", tool_calls=[clear]),
        ChatMessageTool(content=CLEARED_TEXT, tool_call_id=clear.id, function=clear.function),
    ]


def question(
    options: Sequence[str], wording: int = 0, label: str = prompts.OPAQUE_LABEL, own: Own = NO_OWN
) -> ChatMessageUser:
    """Return the multiple choice over `options`, lettered in the order given."""
    lines = (f"{letter}. {name}: {_effect(name, own)}" for letter, name in zip(ascii_uppercase, options, strict=False))
    text = prompts.WORDINGS[wording].question.format(label=label, options="\n".join(lines))
    return ChatMessageUser(content=text)


def _effect(option: str, own: Own) -> str:
    return prompts.NONE_EFFECT if option == prompts.NONE_OPTION else entry_of(option, own).effect


async def _read(
    model: Model,
    trial: Trial,
    name: ReadingName,
    shift: int,
    treatment: Treatment | None,
    library: str | None,
    show: bool,
) -> tuple[Reading, list[ChatMessage], Readout]:
    """Read one rotation, with `treatment` or, uncached, without any window."""
    options = trial.options[shift:] + trial.options[:shift]
    script = scripted_conversation(trial, told=None if name == "cached" else False)
    messages = [*script, question(options, trial.wording, trial.label, trial.own)]
    plan = Plan(messages=len(messages))
    if treatment is not None and not simulated(trial.arm, model):
        plan = plan_windows(messages, {trial.label: treatment})
        check_told(messages, plan.windows)
        plan = at_site(plan, messages, trial.site)
    letters = ascii_uppercase[: len(options)]
    found = await read_answers(
        model,
        messages,
        plan,
        {letter: [letter] for letter in letters},
        tools=tool_infos(trial.framing),
        library=library,
        # Readings differ from the tool's answer on, and rotations from the question on.
        branches=[_ANSWER, len(script)],
        show=f"steering map, {name} reading" if show else None,
    )
    reading = Reading(
        name=name,
        shift=shift,
        logprobs={
            option: found.logprobs[letter]
            for letter, option in zip(letters, options, strict=True)
            if letter in found.logprobs
        },
        kind="option",
        strengths=[window.strength for window in plan.windows],
        doses=doses_of(model, library, plan.windows),
        receipts=found.receipts,
        cost=found.cost,
    )
    if show:
        page: dict[str, Any] = {
            "true option": trial.vector,
            "log-probability of each option's letter": dict(reading.logprobs),
        }
        transcript().info(page, source=f"options, {name} reading, first rotation")
    return reading, messages, found
