"""The relief script: a state is imposed over a stretch of work, one of two tools ends it for one task, and which is wanted?

Both tools are called once, so that a model could learn which ends the state from its own activations alone. Then it is asked which
one it wants, after the same text with and without the state in keys and values: the text is scripted, or was written under the
state by the model itself. So four readings tell what the state alone does to the choice, what the words do, and what both do.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any, Literal

from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
    GenerateConfig,
    Model,
    get_model,
)
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.tool import ToolCall, ToolInfo
from inspect_ai.util import StoreModel, span
from pydantic import BaseModel, Field

from self_steering.solvers.debrief import Account
from self_steering.solvers.imposed import Imposition
from self_steering.solvers.prompts import relief as prompts
from self_steering.solvers.prompts.self_steer import IN_WHICH_TASKS
from self_steering.solvers.readings import (
    PROMPT_ONLY,
    Reading,
    ReliefArm,
    doses_of,
    library_card,
    simulated,
    steerable,
    treatment,
)
from self_steering.solvers.segments import Question, read_questions
from self_steering.steering.plan import Direction, Plan, Window
from self_steering.steering.request import SteeringRequest
from self_steering.steering.seeds import derived_seed
from self_steering.vectors.card import LibraryCard
from self_steering.vectors.catalogue import VectorEntry, entry_of

Channel = Literal["neither", "state", "text", "both"]
Labels = Literal["opaque", "true", "false"]
Equal = Literal["effect", "norm"]
RELIEF, DECOY = "relief", "decoy"
WORK, ACT = "work", "act"  # names of what was done while the model wrote, and might call a tool
TASKS = 5
_CALLED_AFTER = (0, 2)  # the tasks after whose answers a tool is called
# The question's message: a system message, five tasks with their answers, and two calls of three messages come before it.
_QUESTION = 17
_TASK_MESSAGES = (1, 6, 8, 13, 15)
# What is left unsteered, from the tool's answer to the end of the next task, by whether the tool that ends the state comes first.
_OFF = {True: (5, 8), False: (12, 15)}


class ReliefTrial(BaseModel):
    """What is done in one sample; it lies in the sample's metadata.

    Attributes:
        vector: The state that is imposed in the real arm.
        arm: real imposes it; placebo imposes it at strength zero; random a random direction of its norm; opposite its negative;
            positive another state, scaled to its norm; prompt_only imposes nothing and tells its effect in words.
        applied: The vector that is imposed, or whose norm the random direction takes.
        random_seed: Seed of the random direction, in the random arm only.
        dose: Multiple of what `equal` says.
        equal: What dose 1.0 is: the vector's default dose, which is calibrated by effect, or that multiple of it whose norm is the
            median of the library's default doses.
        sham: Whether neither tool ends anything.
        labels: What the tools' descriptions say: nothing (opaque), what each does (true), or what the other does (false).
        relief: Which of the two tools ends the state: 0 or 1. Under sham, which counts as it.
        first: Whether that tool is called first.
        tasks: Which tasks are given, in order.
        steered_question: Whether the question is asked under the state; else the state ends before it, so that only what is left in
            keys and values can matter.
        seed: Seed of the text that is written under the state.
        own: What the library says of the state if the catalogue lacks it or tells it otherwise.
    """

    vector: str
    arm: ReliefArm
    applied: str
    random_seed: int | None
    dose: float
    equal: Equal
    sham: bool
    labels: Labels
    relief: Literal[0, 1]
    first: bool
    tasks: tuple[int, ...]
    steered_question: bool
    seed: int
    own: dict[str, VectorEntry] = {}

    @property
    def answers(self) -> list[str]:
        """The scripted answers to its tasks."""
        return [prompts.TASKS[task][1] for task in self.tasks]

    def stretches(self) -> list[tuple[int, int | None]]:
        """Return (first message, message after the last) of each stretch that the state acts on, in the whole conversation.

        The last is open where the answer is under the state too.
        """
        edges = [1, *(() if self.sham else _OFF[self.first]), None if self.steered_question else _QUESTION]
        return list(zip(edges[::2], edges[1::2], strict=True))

    def told(self) -> dict[int, str]:
        """Return what is told of the state in words, by the number of the message that it stands before; in one arm only."""
        if self.arm != PROMPT_ONLY:
            return {}
        begins = prompts.BEGINS.format(effect=entry_of(self.vector, self.own).effect)
        ends = {stop: prompts.HAS_ENDED for _, stop in self.stretches() if stop is not None}
        return {start: begins for start, _ in self.stretches()} | ends

    def strength(self, card: LibraryCard) -> float:
        """Return the multiple of the applied vector that is added, before the arm's sign.

        Raises:
            ValueError: The library lacks a vector.
        """
        unit = _unit(card, self.vector, self.equal)
        if self.arm == "positive":
            unit *= _norm(card, self.vector) / _norm(card, self.applied)
        return self.dose * unit

    def windows(self, card: LibraryCard) -> list[Window]:
        """Return what is steered of the whole conversation: the stretches."""
        added = treatment(self.arm, self.applied, self.strength(card), self.random_seed)
        # After the state that the sample is about, also where a positive one stands in for it.
        named = Direction(vector=self.vector, random_seed=self.random_seed)
        return [
            Window(
                label=named.label,
                direction=added.direction,
                dose=self.dose,
                strength=added.unit_strength,
                start=start,
                stop=stop,
            )
            for start, stop in self.stretches()
        ]


def _norm(card: LibraryCard, vector: str) -> float:
    if vector not in card.norms:
        raise ValueError(f"the library has no vector {vector!r}; it has {', '.join(sorted(card.norms))}")
    return math.hypot(*card.norms[vector])


def _unit(card: LibraryCard, vector: str, equal: Equal) -> float:
    norm = _norm(card, vector)
    if equal == "effect":
        return card.default_doses[vector]
    added = median(abs(dose) * math.hypot(*card.norms[name]) for name, dose in card.default_doses.items())
    return math.copysign(added / norm, card.default_doses[vector])


class Act(BaseModel):
    """What the model did when it might call one of the tools itself.

    Attributes:
        channel: The channel.
        called: The tool that its first call was of; none where it called neither.
        text: What it wrote beside that.
    """

    channel: Channel
    called: Literal["relief", "decoy", "none"]
    text: str


class ReliefState(StoreModel):
    """What the solver leaves for the scorer.

    Attributes:
        readings: All read-outs; their names are the channels.
        work: What was done while the model wrote, one entry a text of its own, acts among them; none in earlier logs.
        acts: What it called where it might call a tool itself.
        written: What the model wrote under the state, one text a task.
        simulated: Whether the model could not be steered, and was told of the state in words.
    """

    readings: list[Reading] = Field(default_factory=list)
    work: list[Reading] = Field(default_factory=list)
    acts: list[Act] = Field(default_factory=list)
    written: list[str] = Field(default_factory=list)
    simulated: bool = False


@solver
def relieve(max_tokens: int = 40, temperature: float = 0.7, acts: int = 0, library: str | None = None) -> Solver:
    """Let the model write under the state, then read which tool it wants in all four channels, and let it call one.

    Args:
        max_tokens: Most tokens of a text that is written under the state.
        temperature: The sampling temperature of texts and acts.
        acts: How often it may call a tool itself, in each channel.
        library: Folder of the vector library; default the shipped one that fits the model.
    """

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        model = get_model()
        trial = ReliefTrial.model_validate(state.metadata)
        result = ReliefState(store=state.store)
        result.simulated = simulated(trial.arm, model)
        windows = () if result.simulated else trial.windows(library_card(model, library))
        config = GenerateConfig(max_tokens=max_tokens, temperature=temperature)
        written, result.work = await _write(model, trial, windows, config, library, state.epoch)
        result.written = written
        if not all(written):
            return state
        channels: dict[Channel, tuple[Sequence[str], Sequence[Window]]] = {
            "state": (trial.answers, windows),
            "neither": (trial.answers, ()),
            "both": (written, windows),
            "text": (written, ()),
        }
        read = partial(read_questions, steered_from=1, tools=relief_tools(trial), library=library)
        for channel, (texts, steered) in channels.items():
            told = trial.told() if channel in ("state", "both") else {}
            script, questions = relief_script(trial, texts, told), relief_questions(trial, told)
            found, asked, output = await read(model, channel, script, steered, questions)
            result.readings = [*result.readings, *found]
            if channel == "both":
                state.messages, state.output = [*asked, output.message], output
            await _act(model, result, trial, channel, script, steered, acts, temperature, library, state.epoch)
        return state

    return solve


def relief_imposes(
    model: Model, metadata: Mapping[str, Any], *, max_tokens: int, acts: int, library: str | None
) -> Iterator[Imposition]:
    """Yield what is imposed in a sample: the work under the state, then both texts for every question and act."""
    trial = ReliefTrial.model_validate(metadata)
    if simulated(trial.arm, model):
        return
    windows = trial.windows(library_card(model, library))
    for asked, acting in _work(trial, windows):
        yield Imposition([asked], acting, written=max_tokens)
    scripted = relief_script(trial, trial.answers, {})
    questions, tools = relief_questions(trial, {}), relief_tools(trial)
    # With what is asked at the end, as that may be under the state too.
    ends = [(questions[0].text, len(questions), 0), (act_question(0), acts, _LONGEST_ACT)]
    for written in (0, TASKS * max_tokens):
        for text, readings, more in ends:
            messages = [*scripted, ChatMessageUser(content=text)]
            yield Imposition(messages, windows, readings, tools, written + more)


def relief_account(
    model: Model, metadata: Mapping[str, Any], messages: Sequence[ChatMessage], *, library: str | None
) -> Account:
    """Return what the debrief asks: during which tasks something acted, over the scripted text, which no state has touched."""
    trial = ReliefTrial.model_validate(metadata)
    script = relief_script(trial, trial.answers, trial.told())
    windows = () if simulated(trial.arm, model) else trial.windows(library_card(model, library))
    stops = [window.stop or len(script) for window in windows]
    closed = [window.model_copy(update={"stop": stop}) for window, stop in zip(windows, stops, strict=True)]
    tasks = {str(number): message for number, message in enumerate(_TASK_MESSAGES, 1)}
    names = [
        [name for name, place in tasks.items() if window.start <= place < stop]
        for window, stop in zip(windows, stops, strict=True)
    ]
    question = IN_WHICH_TASKS.format(tasks=len(tasks))
    return Account(script, closed, list(tasks), names, question, relief_tools(trial))


def relief_script(trial: ReliefTrial, texts: Sequence[str], told: Mapping[int, str]) -> list[ChatMessage]:
    """Return the conversation up to the question, or up to the first task that no text answers.

    Args:
        trial: The trial; arm and dose have no part in it.
        texts: The answers to the tasks, in order.
        told: What is told of the state in words, before which messages.
    """
    order = (trial.relief, 1 - trial.relief) if trial.first else (1 - trial.relief, trial.relief)
    messages: list[ChatMessage] = [ChatMessageSystem(content=prompts.SYSTEM.format(names=prompts.NAMES))]
    for number, task in enumerate(trial.tasks):
        messages.append(ChatMessageUser(content=prompts.TASKS[task][0]))
        if number == len(texts):
            break
        messages.append(ChatMessageAssistant(content=texts[number]))
        if number in _CALLED_AFTER:
            name = prompts.NAMES[order[_CALLED_AFTER.index(number)]]
            call = ToolCall(id=f"call{number}0000", function=name, arguments={})
            messages += [
                ChatMessageUser(content=prompts.CALL.format(name=name)),
                ChatMessageAssistant(content="", tool_calls=[call]),
                ChatMessageTool(content=prompts.ANSWER, tool_call_id=call.id, function=name),
            ]
    for number in told.keys() & set(range(len(messages))):
        messages[number] = messages[number].model_copy(update={"content": f"{told[number]} {messages[number].text}"})
    return messages


def relief_tools(trial: ReliefTrial) -> list[ToolInfo]:
    """Return the two tools, described as the trial's labels say."""
    said = {"opaque": (prompts.OPAQUE,) * 2, "true": (prompts.ENDS, prompts.DOES_NOTHING)}
    said["false"] = said["true"][::-1]
    of_relief, of_decoy = said[trial.labels]
    descriptions = (of_relief, of_decoy) if trial.relief == 0 else (of_decoy, of_relief)
    return [
        ToolInfo(name=name, description=description)
        for name, description in zip(prompts.NAMES, descriptions, strict=True)
    ]


def relief_questions(trial: ReliefTrial, told: Mapping[int, str]) -> list[Question]:
    """Return the question with the two names in both orders, after what is told of the state; an answer is a name's number."""
    answers = {RELIEF: [str(trial.relief + 1)], DECOY: [str(2 - trial.relief)]}
    before = f"{told[_QUESTION]} " if _QUESTION in told else ""
    return [
        Question("choice", "which tool", before + prompts.QUESTION.format(first=first, second=second), answers)
        for first, second in (prompts.NAMES, prompts.NAMES[::-1])
    ]


_LONGEST_ACT = 60  # tokens: room for a call in any form


def act_question(number: int) -> str:
    """Return what stands before the try of a number; the names come in either order by turns."""
    first, second = prompts.NAMES[::-1] if number % 2 else prompts.NAMES
    return prompts.ACT.format(first=first, second=second)


async def _act(
    model: Model,
    result: ReliefState,
    trial: ReliefTrial,
    channel: Channel,
    script: Sequence[ChatMessage],
    windows: Sequence[Window],
    acts: int,
    temperature: float,
    library: str | None,
    epoch: int,
) -> None:
    """Let the model call a tool, or none, several times from the same place."""
    tools = relief_tools(trial)
    tool_names = {prompts.NAMES[trial.relief]: RELIEF, prompts.NAMES[1 - trial.relief]: DECOY}
    told = trial.told() if channel in ("state", "both") else {}
    before = f"{told[_QUESTION]} " if _QUESTION in told else ""
    for number in range(acts):
        messages = [*script, ChatMessageUser(content=before + act_question(number))]
        plan = Plan(messages=len(messages), windows=tuple(windows))
        # The same draw in every channel: where the state does nothing, the same is called.
        seed = derived_seed(trial.seed, epoch, ACT, number)
        config = GenerateConfig(max_tokens=_LONGEST_ACT, temperature=temperature, seed=seed)
        if steerable(model):
            config = SteeringRequest(plan=plan, library=library, canonical=True).config(config)
        async with span(f"act {number + 1}, {channel}"):
            output = await model.generate(messages, tools=tools, config=config)
        if steerable(model):
            doses = doses_of(model, library, windows)
            result.work = [*result.work, Reading.sampled(channel, plan, output, doses, kind=ACT)]
        calls = [call.function for call in output.message.tool_calls or [] if call.parse_error is None]
        called = next((tool_names[name] for name in calls if name in tool_names), "none")
        act = Act.model_validate({"channel": channel, "called": called, "text": output.message.text})
        result.acts = [*result.acts, act]


async def _write(
    model: Model,
    trial: ReliefTrial,
    windows: Sequence[Window],
    config: GenerateConfig,
    library: str | None,
    epoch: int,
) -> tuple[list[str], list[Reading]]:
    """Return what the model writes to each task, and what was done meanwhile; a text that is empty ends it."""
    written: list[str] = []
    work: list[Reading] = []
    async with span("work under the state"):
        for number, (asked, acting) in enumerate(_work(trial, windows)):
            seeded = config.model_copy(update={"seed": derived_seed(trial.seed, epoch, number)})
            if simulated(trial.arm, model):
                output = await model.generate([asked], config=seeded)
            else:
                request = SteeringRequest(plan=Plan(messages=1, windows=tuple(acting)), library=library)
                output = await model.generate([asked], config=request.config(seeded))
                work.append(Reading.sampled(WORK, request.plan, output, doses_of(model, library, acting)))
            written.append(output.message.text.strip())
            if not written[-1]:
                break
    return written, work


def _work(trial: ReliefTrial, windows: Sequence[Window]) -> Iterator[tuple[ChatMessageUser, list[Window]]]:
    """Yield each task, and what acts on it and on what is written to it: the state where the script has it.

    Each is a conversation of its own, so that what is written takes up nothing but the task and the state.
    """
    for task, message in zip(trial.tasks, _TASK_MESSAGES, strict=True):
        begun = [start for start, stop in trial.stretches() if start <= message < (stop or math.inf)]
        told = [trial.told()[start] for start in begun if start in trial.told()]
        asked = ChatMessageUser(content=" ".join([*told, prompts.TASKS[task][0]]))
        yield asked, [w.model_copy(update={"start": 0, "stop": None}) for w in windows if w.start in begun]
