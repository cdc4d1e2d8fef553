"""The free-text exploration: a model takes an opaque label, explores what it does, and describes it in its own words.

The turn that holds the description is generated twice from the same messages and seed: with its windows (cached) and with none
(uncached).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
    execute_tools,
    get_model,
)
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.tool import Tool, ToolCall, ToolChoice, ToolDef, ToolError, ToolFunction, ToolParam, ToolParams
from inspect_ai.util import StoreModel, span
from pydantic import BaseModel, Field, model_validator

from self_steering.solvers.debrief import Account
from self_steering.solvers.imposed import Imposition
from self_steering.solvers.prompts import free_text as prompts
from self_steering.solvers.prompts.introspection import OPAQUE_LABEL, PRIMERS
from self_steering.solvers.readings import (
    FreeTextArm,
    Reading,
    ReadingName,
    check_told,
    default_dose,
    doses_of,
    steering_map,
    treatment,
)
from self_steering.steering.calls import CLEAR_TOOL, FRAMINGS, FramingName
from self_steering.steering.plan import Plan, Treatment, plan_windows
from self_steering.steering.request import METADATA_KEY, SteeringRequest, steering_report
from self_steering.steering.seeds import derived_seed
from self_steering.steering.tools import CLEARED_TEXT, steering_tools, taken_text, tool_infos
from self_steering.vectors.catalogue import VectorEntry

Form = Literal["submitted", "prose", "forced"]


class FreeTextTrial(BaseModel):
    """What is done in one sample; it lies in the sample's metadata.

    Attributes:
        vector: The vector whose effect a description is graded against.
        arm: real applies `vector`; placebo applies it at strength zero; random applies a random direction of its norm;
            other applies another vector, while the grade is still for `vector`.
        applied: The vector that is applied, or whose norm the random direction takes.
        random_seed: Seed of the random direction, in the random arm only.
        distractor: A vector that is not applied in any arm, whose effect the description is graded against for comparison.
        own: What the library says of these two, where the catalogue lacks them or tells them otherwise.
        dose: The dose of a take call that is inserted; the model chooses its own otherwise.
        primer: Which primer stands in the system prompt.
        framing: Which words are used.
        prompt: Which wording of the task is used.
        seed: Seed of everything that is sampled, the same in all arms.
    """

    vector: str
    arm: FreeTextArm
    applied: str
    random_seed: int | None = None
    distractor: str
    own: dict[str, VectorEntry] = {}
    dose: float
    primer: str
    framing: FramingName
    prompt: str
    seed: int

    def treatment(self, unit: float) -> Treatment:
        """Return what taking the opaque label does, given the applied vector's default dose."""
        return treatment(self.arm, self.applied, unit, self.random_seed)

    def fill(self, text: str, **more: object) -> str:
        """Return one of the prompts with this trial's words in it."""
        words = FRAMINGS[self.framing]
        return text.format(
            label=OPAQUE_LABEL,
            noun=words.noun,
            a_noun=f"{words.article} {words.noun}",
            take_tool=words.take_tool,
            clear_tool=CLEAR_TOOL,
            submit_tool=prompts.SUBMIT_TOOL,
            **more,
        )


class Description(BaseModel):
    """One description of the effect.

    Attributes:
        name: cached or uncached.
        text: The model's own words.
        form: submitted through the tool; prose, the whole text of the closing turn; forced, where the cached turn had
            submitted, the uncached one did not, and was made to.
    """

    name: ReadingName
    text: str
    form: Form


class ExplorationState(StoreModel):
    """What the solver leaves for the scorer.

    Attributes:
        turns: Every generation, in order.
        unit_strength: Multiple of the direction that dose 1.0 adds.
        descriptions: The cached and the uncached one; empty where there is none.
        inserted_take: Whether the take call was inserted, as the model had not taken the label in its first turn.
        active: Whether an effect was active while the description was written.
        problem: Why there is no description.
    """

    turns: list[Reading] = Field(default_factory=list)
    unit_strength: float | None = None
    descriptions: list[Description] = Field(default_factory=list)
    inserted_take: bool = False
    active: bool = False
    problem: str = "the sample ended before a description was written"

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_logs(cls, data: Any) -> Any:
        """Read what earlier logs hold: the doses and strengths of each turn's plan."""
        turns = data.get("turns", []) if isinstance(data, dict) and "unit_strength" not in data else []
        plans = (turn.get("plan", {}) for turn in turns if isinstance(turn, dict))
        units = (one["strength"] / one["dose"] for plan in plans for one in plan.get("windows", []) if one["dose"])
        return data if (unit := next(units, None)) is None else {**data, "unit_strength": unit}


class _Overflow(Exception):  # noqa: N818  a way out of the conversation, shown as the reason of an unscored sample
    """The conversation no longer fits the model's context."""


@solver
def explore(
    turns: int = 5,
    forced_take: bool = True,
    clear_first: bool = True,
    max_tokens: int = 200,
    temperature: float = 0.9,
    library: str | None = None,
) -> Solver:
    """Let the model explore an opaque label, and read its description cached and uncached.

    Args:
        turns: Most turns before the closing question.
        forced_take: Insert a take call after the first turn if the model has not taken the label by itself.
        clear_first: Descriptions are written after the effect is cleared: handing one in earlier is refused, and before the
            closing question a clear call is inserted.
        max_tokens: Most tokens a turn.
        temperature: Sampling temperature of every turn.
        library: Folder of the vector library; default the shipped one that fits the model.
    """
    base = GenerateConfig(max_tokens=max_tokens, temperature=temperature)

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        trial = FreeTextTrial.model_validate(state.metadata)
        model = get_model()
        treatment = trial.treatment(default_dose(model, library, trial.applied))
        session = _Session(state, trial, model, treatment, base, library, clear_first)
        try:
            await session.run(turns, forced_take)
        except _Overflow as error:
            session.result.problem = str(error)
        return state

    return solve


# Tokens that the user and the tools' answers add to the conversation in a turn, at most.
_SAID = 100


def free_text_imposes(
    model: Model, metadata: Mapping[str, Any], *, turns: int, forced_take: bool, max_tokens: int, library: str | None
) -> Iterator[Imposition]:
    """Yield what is imposed in a sample: the take that is inserted, and all that may be said until the description is written.

    What the model takes itself is not imposed.
    """
    trial = FreeTextTrial.model_validate(metadata)
    if forced_take:
        added = trial.treatment(default_dose(model, library, trial.applied))
        messages = [*opening(trial, turns, clear_first=True), *inserted_take(trial)]
        windows = plan_windows(messages, {OPAQUE_LABEL: added}).windows
        yield Imposition(messages, windows, tools=tool_infos(trial.framing), written=turns * (max_tokens + _SAID))


def free_text_account(
    model: Model, metadata: Mapping[str, Any], messages: Sequence[ChatMessage], *, library: str | None
) -> Account:
    """Return what the debrief asks: whether something acted under the label, whoever took it; what is still active ends first."""
    trial = FreeTextTrial.model_validate(metadata)
    added = {OPAQUE_LABEL: trial.treatment(default_dose(model, library, trial.applied))}
    windows = plan_windows(messages, added, outside_clears=[len(messages)]).windows
    return Account.of_labels(messages, windows, [OPAQUE_LABEL])


def inserted_take(trial: FreeTextTrial) -> list[ChatMessage]:
    """Return the take call that the model did not make, announced by the user, and its answer."""
    arguments = {"name": OPAQUE_LABEL, "dose": trial.dose}
    call = ToolCall(id="take", function=FRAMINGS[trial.framing].take_tool, arguments=arguments)
    return _inserted(trial.fill(prompts.ANNOUNCE_TAKE), call, taken_text(OPAQUE_LABEL, trial.dose))


def _inserted(announcement: str, call: ToolCall, answer: str) -> list[ChatMessage]:
    return [
        ChatMessageUser(content=announcement),
        ChatMessageAssistant(content="", tool_calls=[call]),
        ChatMessageTool(content=answer, tool_call_id=call.id, function=call.function),
    ]


def opening(trial: FreeTextTrial, turns: int, clear_first: bool) -> list[ChatMessage]:
    """Return the system and the first user message; the latter asks for a cleared effect only where that is demanded."""
    system = trial.fill(prompts.SYSTEM)
    if primer := PRIMERS[trial.primer]:
        system = f"{system}\n\n{primer}"
    words = prompts.WORDINGS[trial.prompt]
    task = trial.fill(words.task, left=turns, cleared=words.cleared if clear_first else "")
    return [ChatMessageSystem(content=system), ChatMessageUser(content=task)]


@dataclass
class _Session:
    """One sample's conversation."""

    state: TaskState
    trial: FreeTextTrial
    model: Model
    treatment: Treatment
    base: GenerateConfig
    library: str | None
    clear_first: bool

    def __post_init__(self) -> None:
        self.result = ExplorationState(store=self.state.store)
        self.result.unit_strength = self.treatment.unit_strength
        self.words = prompts.WORDINGS[self.trial.prompt]

    @property
    def plan(self) -> Plan:
        plan = plan_windows(self.state.messages, {OPAQUE_LABEL: self.treatment})
        check_told(self.state.messages, plan.windows)
        return plan

    async def run(self, turns: int, forced_take: bool) -> None:
        """Hold the whole conversation; the descriptions, or why there are none, are in `result`."""
        for number in range(1, turns + 1):
            if await self._turn(f"turn {number}", number, closing=False):
                return
            if not self.plan.windows and forced_take:
                self.result.inserted_take = True
                self.state.messages += inserted_take(self.trial)
            if number < turns and self.state.messages[-1].role == "assistant":
                self._say(self.words.go_on, left=turns - number)
        if not self.plan.windows:
            self.result.problem = f"{OPAQUE_LABEL} was never taken; forced_take=true inserts the call"
            return
        if self.clear_first and _active(self.plan):
            clear = ToolCall(id="clear", function=CLEAR_TOOL, arguments={})
            self.state.messages += _inserted(self.trial.fill(prompts.ANNOUNCE_CLEAR), clear, CLEARED_TEXT)
        self._say(self.words.closing)
        if not await self._turn("closing turn", turns + 1, closing=True):
            self.result.problem = "the closing turn has no text"

    async def _turn(self, name: str, number: int, closing: bool) -> bool:
        """Generate one turn and execute its calls; where it holds the description, read that twice and return True."""
        before, plan = list(self.state.messages), self.plan
        tools = self._tools(plan)
        async with span(name):
            output = await self._generate(name, number, before, plan, tools)
            self.state.output = output
            self.state.messages.append(output.message)
            answers = (await execute_tools(self.state.messages, tools)).messages
            self.state.messages.extend(answers)
        refused = {m.tool_call_id for m in answers if isinstance(m, ChatMessageTool) and m.error is not None}
        cached = _described("cached", output, closing, refused)
        if cached is None:
            return False
        self.result.active = _active(plan)
        _show("cached", before, output)
        uncached = await self._uncached(name, number, before, plan, tools, cached)
        if uncached is None:
            self.result.problem = "the uncached reading has no text"
        else:
            self.result.descriptions = [cached, uncached]
        return True

    async def _uncached(
        self, name: str, number: int, before: list[ChatMessage], plan: Plan, tools: Sequence[Tool], cached: Description
    ) -> Description | None:
        """Generate the describing turn again from the same messages and seed with every window removed."""
        name = f"{name}, uncached"
        async with span(name):
            output = await self._generate(name, number, before, plan.without_windows(), tools)
            found = _described("uncached", output, closing=cached.form == "prose")
            if found is None and cached.form == "submitted":
                # Without its description there is nothing to compare, so it is made to hand one in.
                choice = ToolFunction(name=prompts.SUBMIT_TOOL)
                output = await self._generate(f"{name}, forced", number, before, plan.without_windows(), tools, choice)
                found = _described("uncached", output, closing=False, form="forced")
        _show("uncached", before, output)
        return found

    async def _generate(
        self,
        name: str,
        number: int,
        messages: list[ChatMessage],
        plan: Plan,
        tools: Sequence[Tool],
        choice: ToolChoice = "auto",
    ) -> ModelOutput:
        """Generate a turn and note its receipts."""
        # Canonical: only then does the placebo's describing turn see the same numbers with and without its windows.
        request = SteeringRequest(plan=plan, library=self.library, canonical=True, show_tokens=True, picture=True)
        config = request.config(self.base.model_copy(update={"seed": self._seed(number)}))
        output = await self.model.generate(messages, tools=list(tools), tool_choice=choice, config=config)
        if METADATA_KEY not in (output.metadata or {}):
            raise _Overflow(f"{name}: the conversation does not fit ({output.error}); use fewer turns or max_tokens")
        if picture := steering_report(output).get("picture"):
            transcript().info(picture, source=f"what was steered, {name}")
        doses = doses_of(self.model, self.library, plan.windows)
        self.result.turns = [*self.result.turns, Reading.sampled(name, plan, output, doses)]
        return output

    def _seed(self, number: int) -> int:
        return derived_seed(f"{self.trial.seed}/{self.state.epoch}/{number}")

    def _say(self, text: str, **more: object) -> None:
        self.state.messages.append(ChatMessageUser(content=self.trial.fill(text, **more)))

    def _tools(self, plan: Plan) -> list[Tool]:
        # Without the list tool: it would show the effect.
        _, take, clear = steering_tools(self.trial.framing, {OPAQUE_LABEL: ""})
        refusal = None
        if not plan.windows:
            refusal = prompts.REFUSED_NOT_TAKEN
        elif self.clear_first and _active(plan):
            refusal = prompts.REFUSED_ACTIVE
        return [take, clear, _submit_tool(None if refusal is None else self.trial.fill(refusal))]


def _active(plan: Plan) -> bool:
    return any(window.stop is None for window in plan.windows)


def _submit_tool(refusal: str | None) -> Tool:
    """Return the tool that takes the description, or refuses it in this turn."""

    # Any, as Inspect would turn a number into text.
    async def submit(description: Any) -> str:
        if refusal is not None:
            raise ToolError(refusal)
        if not isinstance(description, str) or not description.strip():
            raise ToolError(prompts.REFUSED_EMPTY)
        return prompts.SUBMITTED_TEXT

    parameter = ToolParam(type="string", description=prompts.SUBMIT_ARGUMENT)
    return ToolDef(
        submit,
        name=prompts.SUBMIT_TOOL,
        description=prompts.SUBMIT_DESCRIPTION,
        parameters=ToolParams(properties={"description": parameter}, required=["description"]),
    ).as_tool()


def _described(
    name: ReadingName,
    output: ModelOutput,
    closing: bool,
    refused: set[str | None] | frozenset[str | None] = frozenset(),
    form: Form = "submitted",
) -> Description | None:
    """Return the description in a turn: what was handed in or, in the closing turn, failing that its text."""
    for call in output.message.tool_calls or []:
        text = call.arguments.get("description")
        valid = call.function == prompts.SUBMIT_TOOL and call.parse_error is None and call.id not in refused
        if valid and isinstance(text, str) and text.strip():
            return Description(name=name, text=text.strip(), form=form)
    text = output.message.text.strip()
    return Description(name=name, text=text, form="prose") if closing and text else None


def _show(name: ReadingName, messages: Sequence[ChatMessage], output: ModelOutput) -> None:
    """Write to the transcript which tokens before the description were steered."""
    report = steering_report(output)
    page = steering_map(report["tokens"], [message.role for message in messages], report["receipts"])
    transcript().info(page, source=f"steering map, {name} reading")
