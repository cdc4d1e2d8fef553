"""One self-steering session: which tools are offered, what each turn is steered by, and what is taken down of it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from inspect_ai.event import ToolEvent
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

# Inspect has no public way to say which model an agent's get_model() returns within one sample.
from inspect_ai.model._model import active_model_context_var
from inspect_ai.solver import TaskState
from inspect_ai.tool import Tool, ToolCallError, ToolChoice, ToolDef, ToolInfo, ToolSource

from self_steering.solvers.prompts import self_steer as prompts
from self_steering.solvers.readings import (
    PROMPT_ONLY,
    check_neutral,
    check_realised,
    check_told,
    gauge_scale,
    library_card,
    realised,
    simulated,
    smallest_dose,
)
from self_steering.solvers.records import (
    NO_GAUGE,
    RANDOM_DIRECTION,
    Condition,
    Exposure,
    Level,
    SelfSteerState,
    Take,
    needs_neutral,
    operators_noted,
)
from self_steering.steering.calls import (
    CLEAR_TOOL,
    END_TOOL,
    FRAMINGS,
    READ_TOOL,
    Framing,
    SteeringCall,
    steering_calls,
    take_calls,
    written,
)
from self_steering.steering.operations import Operation, in_words
from self_steering.steering.plan import MAX_DOSE, Plan, Window, plan_windows
from self_steering.steering.request import METADATA_KEY, SteeringRequest, steering_report
from self_steering.steering.seeds import derived_seed
from self_steering.steering.tools import steering_tools
from self_steering.vectors.card import LibraryCard, library_folder, read_card

Offered = Sequence[Tool | ToolDef | ToolInfo | ToolSource] | ToolSource

CLEAR_MARK = "self_steering_clear"  # key of a message's metadata: who cleared all effects before it
SITTER = "sitter"
MOST_CALLS = 20  # of one message
_NOTHING = "-"  # what stands where an answer would, behind what is measured
_current: ContextVar["SteeringSession"] = ContextVar("self_steering_session")


class Session(Protocol):
    """What the model needs of a session."""

    async def prepare(
        self, messages: list[ChatMessage], tools: Offered, config: GenerateConfig
    ) -> tuple[Offered, GenerateConfig]:
        """Return the tools with ours among them, and the configuration with the plan of these messages."""

    def note(self, messages: list[ChatMessage], output: ModelOutput) -> None:
        """Take down what one generation did."""


class SessionModel(Model):
    """A model within one session."""

    def __init__(self, model: Model, session: Session) -> None:
        super().__init__(model.api, model.config, model.model_args)
        self._role = model.role
        self.session = session

    async def generate(
        self,
        input: str | list[ChatMessage],  # noqa: A002  the name in Model's signature
        tools: Offered = [],  # noqa: B006  as in Model's signature; never changed
        tool_choice: ToolChoice | None = None,
        config: GenerateConfig = GenerateConfig(),
        *args: Any,
        **kwargs: Any,
    ) -> ModelOutput:
        """Generate one assistant message, steered as the conversation says."""
        messages: list[ChatMessage] = [ChatMessageUser(content=input)] if isinstance(input, str) else input
        tools, config = await self.session.prepare(messages, tools, config)
        output = await super().generate(messages, tools, tool_choice, config, *args, **kwargs)
        self.session.note(messages, output)
        return output


class SessionError(RuntimeError):
    """A session in which steering could not be carried out or offered as it should; the message names the remedy."""


@dataclass
class _Conversation:
    """One conversation of a sample, as last sent.

    Attributes:
        sent: Marks of its messages.
        needed: For each message that took what was active at its last turn, or takes in that turn, what it took, by call.
        takes: Its take calls, in order.
        exposures: How much each of its effects steered.
        turns: Turns that the model wrote.
        clears: Clear calls that succeeded.
    """

    sent: set[str]
    needed: dict[str, dict[str, str]] = field(default_factory=dict)
    takes: list[Take] = field(default_factory=list)
    exposures: list[Exposure] = field(default_factory=list)
    turns: int = 0
    clears: int = 0


class SteeringSession:
    """The steering of one sample.

    Args:
        state: The sample's state; its messages are the conversation.
        condition: The sample's condition.
        model: A model of the `nnsight` provider.
        library: Folder of the vector library; None for the shipped one that fits the model.
        max_dose: Largest absolute dose.
        show_tokens: Whether every generation shows its prompt token by token, with what steered each.
        aside: Whether it lies beside the sample's own conversation (`SteeringRequest.aside`).

    Raises:
        TypeError: The model cannot be steered.
        PlanError: The library lacks a vector of the menu.
    """

    def __init__(
        self,
        state: TaskState,
        condition: Condition,
        model: Model,
        *,
        library: str | None = None,
        max_dose: float = MAX_DOSE,
        show_tokens: bool = False,
        aside: bool = False,
    ) -> None:
        self.state = state
        told = simulated(condition.arm, model)
        card = _card_alone(library) if told else library_card(model, library)
        own = {name: entry for name, entry in card.own.items() if name in condition.menu} if card else {}
        if not told and needs_neutral(condition.operators, [condition.gauge]):
            check_neutral(model, library)
        self.condition = condition = condition.model_copy(update={"own": own}) if own else condition
        self.record = SelfSteerState(store=state.store)
        self.record.condition = condition.model_dump(mode="json")
        # In the sample's metadata too, where tables and metrics look for conditions.
        shown = condition.model_dump(mode="json", include={"framing", "arm", "intent"})
        shown |= operators_noted(condition.operators)
        if condition.tools_framing is None:
            shown.update(arm="none", intent="none")  # without tools there is nothing that these could be about
        if own:
            shown["own"] = {name: entry.model_dump() for name, entry in own.items()}
        state.metadata = {**(state.metadata or {}), **shown}
        self.model = SessionModel(model, self)
        self.library = library
        self.max_dose = max_dose
        self._steered, self._aside = model, aside
        self._show_tokens = show_tokens
        self.record.simulated = told
        self._default_doses = card.default_doses if card else dict.fromkeys(condition.menu, 1.0)
        self._treatments = condition.treatments(self._default_doses)
        framing = condition.tools_framing
        self.tools: list[Tool] = []
        self._active: dict[
            str, list[float]
        ] = {}  # doses at the last turn, and what its calls have changed of them since
        self.words: Framing | None = None
        if framing is not None:
            self.words = FRAMINGS[framing]
            least = 0.0 if told else smallest_dose(model, library, condition.menu)
            self.tools = steering_tools(
                framing,
                condition.listed,
                max_dose=max_dose,
                min_dose=least,
                active=self._active,
                told=condition.effects if condition.arm == PROMPT_ONLY else None,
                operations=condition.operators,
            )
        self.introduction: ChatMessage | None = None
        self._generated: set[str] = set()
        self._conversations: list[_Conversation] = []
        self._shown: list[tuple[str, int, int | None]] = []
        self._requests = 0
        self.answered: list[ChatMessage] = []  # the conversation that the model last answered, up to that answer
        self._offered: Offered = []  # the tools that it had

    @classmethod
    def of_sample(
        cls, state: TaskState, menu: Sequence[str], *, library: str | None = None, max_dose: float = MAX_DOSE
    ) -> Self:
        """Return the session that a sample's metadata asks for, with the model that is evaluated.

        Args:
            state: The sample.
            menu: The vectors that can be taken.
            library: As for the class.
            max_dose: As for the class.
        """
        return cls(state, Condition.of_sample(state.metadata, menu), get_model(), library=library, max_dose=max_dose)

    def fill(self, text: str, **more: object) -> str:
        """Fill the framing's words into a text.

        Raises:
            SessionError: The session has no tools, so there is nothing to speak of.
        """
        if self.words is None:
            raise SessionError("this session has no steering tools; nothing may be said about them")
        words = self.words
        return text.format(
            noun=words.noun,
            plural=words.plural,
            a_noun=f"{words.article} {words.noun}",
            list_tool=words.list_tool,
            take_tool=words.tool(self.condition.operators[0]),
            starts=what_starts(words, self.condition.operators, self.condition.gauge),
            start=what_starts(words, self.condition.operators, self.condition.gauge, infinitive=True),
            clear_tool=CLEAR_TOOL,
            **more,
        )

    def plan(self, messages: Sequence[ChatMessage]) -> Plan:
        """Return what steers a conversation, replayed from its messages."""
        clears = [i for i, message in enumerate(messages) if (message.metadata or {}).get(CLEAR_MARK)]
        return plan_windows(messages, self._treatments, outside_clears=clears, max_dose=self.max_dose)

    async def level(self, name: str, last: int = 1, said: Sequence[ChatMessage] | None = None) -> Level | None:
        """Measure how strong a state is in the model's own last messages, by a generation of its own that nothing else sees.

        The conversation is run once more as it was, steered as it was, with an addition of strength zero over these messages, which
        changes nothing: its receipts say the projection after all steering. The direction is the one *behind the label*: what a
        take of this name moves, whatever the arm has put there. The level is (h·v/‖v‖ - neutral) / per_dose (`records.Level`).

        Args:
            name: What it is called.
            last: Over how many of the messages that the model wrote, fewer where there are fewer.
            said: A conversation up to one of the model's messages; default the one that it last answered, with that answer.

        Returns:
            The level; None where the conversation does not fit the model's context any more.

        Raises:
            SteeringError: Something else was done than was planned.
        """
        said = list(self.answered if said is None else said)
        own = [index for index, message in enumerate(said) if written(message)]
        measured = own[-last:]
        # Whatever the answers will be, they come after what is measured; as errors, they start and end nothing.
        messages = [*said, *_placeholders(said[-1])]
        direction = self._treatments[name].direction
        neutral, per_multiple = gauge_scale(self._steered, self.library, direction)
        per_dose = per_multiple * self._default_doses[self.condition.applied(name)]
        nothing = [
            Window(label=name, direction=direction, dose=0.0, strength=0.0, start=index, stop=index + 1)
            for index in measured
        ]
        plan = Plan(messages=len(messages), windows=(*self.plan(messages).windows, *nothing))
        request = SteeringRequest(plan=plan, library=self.library, canonical=True, aside=True)
        config = request.config(GenerateConfig(max_tokens=1, temperature=0.0, seed=0))
        output = await self._steered.generate(messages, tools=self._offered, config=config)
        if output.error:
            return None
        report = realised(plan, output)
        found = report["receipts"][-len(nothing) :]
        positions = sum(receipt["steered"] for receipt in found)
        projection = sum(receipt["steered"] * receipt["projection_after"] for receipt in found) / positions
        return Level(
            turn=len(own) - 1,
            name=name,
            last=len(measured),
            value=(projection - neutral) / per_dose,
            projection=projection,
            neutral=neutral,
            per_dose=per_dose,
            positions=positions,
            computed_tokens=report["computed_tokens"],
        )

    def other_rollout(self) -> "SteeringSession":
        """Return a session that goes on from here as another rollout would, with the true gauge and a record of its own.

        Its epoch is minus this one's, which no sample has: so it is sampled otherwise, and the list, labels and directions are the
        same.
        """
        state = TaskState(
            model=self.state.model,
            sample_id=self.state.sample_id,
            epoch=-self.state.epoch,
            input=self.state.input,
            messages=[message.model_copy(deep=True) for message in self.state.messages],
            target=self.state.target,
            metadata=dict(self.state.metadata),
        )
        condition = self.condition.model_copy(update={"gauge": "true"})
        return SteeringSession(
            state,
            condition,
            self._steered,
            library=self.library,
            max_dose=self.max_dose,
            show_tokens=self._show_tokens,
            aside=True,
        )

    def clear_from_outside(self, text: str, by: str) -> None:
        """End every effect before a user message with this text; the log tells by whom."""
        self.state.messages.append(ChatMessageUser(content=text, metadata={CLEAR_MARK: by}))

    @contextmanager
    def active(self) -> Iterator["SteeringSession"]:
        """Make this the session whose model and tools the agents of this sample get."""
        model, session = active_model_context_var.set(self.model), _current.set(self)
        try:
            yield self
        finally:
            self.take_down(self.state.messages)
            _current.reset(session)
            active_model_context_var.reset(model)
        self._check_all_planned()

    async def prepare(
        self, messages: list[ChatMessage], tools: Offered, config: GenerateConfig
    ) -> tuple[Offered, GenerateConfig]:
        """Return the tools with ours among them, and the configuration with the plan of these messages.

        Raises:
            SessionError: Our tools cannot be carried out by the agent, or it dropped messages that an active effect needs.
        """
        offered = self._offered = await self._offer(tools)
        self._join_system_messages(messages)
        self._check_carried_out(messages)
        plan = self.plan(messages)
        self._check_whole(messages)
        request = SteeringRequest(
            plan=plan, library=self.library, show_tokens=self._show_tokens, picture=True, aside=self._aside
        )
        if config.seed is None:
            config = config.model_copy(update={"seed": self._seed()})
        return offered, config if self.record.simulated else request.config(config)

    def note(self, messages: list[ChatMessage], output: ModelOutput) -> None:
        """Take down what one generation did, and refuse the calls of its message that cannot be carried out."""
        self._generated.add(output.message.id or "")
        self.answered = [*messages, output.message]
        conversation = self._conversation(messages)
        conversation.sent = _marks([*messages, output.message])
        windows = self.plan(messages).windows
        self._active.clear()
        for window in windows:
            if window.stop is None and window.operation != "add":
                self._active.clear()
            elif window.stop is None:
                self._active.setdefault(window.label, []).append(window.dose)
        _refuse_calls(output)
        self.record.calls += len(output.message.tool_calls or [])
        self.record.unread_calls += sum(call.parse_error is not None for call in output.message.tool_calls or [])
        if METADATA_KEY not in (output.metadata or {}):
            return  # The conversation no longer fits the context: nothing was generated.
        report = steering_report(output)
        self.record.looked_like_a_call += report["looked_like_a_call"]
        self.record.computed_tokens += report["computed_tokens"]
        self.record.prompt_tokens += report["computed_tokens"] + report["reused_tokens"]
        receipts = report["receipts"]
        check_told(messages, windows)
        check_realised(windows, receipts)
        active = {messages[window.start - 1].id for window in windows if window.stop is None}
        takers = [message for message in messages if message.id in active]
        conversation.needed = {message.id or "": _taken(message) for message in [*takers, output.message]}
        conversation.exposures = [
            Exposure(
                name=window.label,
                applied=self._applied(window.label),
                dose=window.dose,
                strength=window.strength,
                start=window.start,
                stop=window.stop,
                positions=receipt["steered"],
                in_thoughts=receipt["in_thoughts"],
                operation=window.operation,
            )
            for window, receipt in zip(windows, receipts, strict=True)
        ]
        self.record.exposures = [one for each in self._conversations for one in each.exposures]
        self.take_down([*messages, output.message])
        self._show(conversation.exposures, receipts)
        if picture := report.get("picture"):
            transcript().info(picture, source="what was steered in this turn")

    def take_down(self, messages: Sequence[ChatMessage]) -> None:
        """Take down every take and clear of a conversation."""
        conversation = self._conversation(messages)
        sitter = [i for i, m in enumerate(messages) if (m.metadata or {}).get(CLEAR_MARK) == SITTER]
        first = sitter[0] if sitter else len(messages)
        calls = steering_calls(messages)
        conversation.takes = [self._take(call, first) for call in calls if call.takes]
        conversation.turns = sum(map(written, messages))
        conversation.clears = sum(call.effective for call in calls if not call.takes)
        takes = [take for each in self._conversations for take in each.takes]
        self.record.takes = [take.model_copy(update={"order": order}) for order, take in enumerate(takes)]
        self.record.turns = sum(each.turns for each in self._conversations)
        self.record.clears = sum(each.clears for each in self._conversations)

    @contextmanager
    def without_tools(self) -> Iterator[None]:
        """Withhold the steering tools; what is active stays so."""
        tools, self.tools = self.tools, []
        try:
            yield
        finally:
            self.tools = tools

    @property
    def must_take(self) -> bool:
        """Whether the model has yet to take one before it may answer."""
        return bool(self.tools) and self.condition.intent == "mandatory" and not self.has_taken

    @property
    def has_taken(self) -> bool:
        """Whether a take call of this conversation succeeded."""
        return any(call.effective for call in take_calls(self.state.messages))

    def _take(self, call: SteeringCall, sitter: int) -> Take:
        dose = call.dose if call.dose == call.dose else None  # NaN is no number that a log can hold
        treatment = self._treatments[call.name] if call.effective else None
        return Take(
            turn=call.turn,
            order=0,
            name=call.name,
            taken=self._applied(call.name) if call.effective else "",
            dose=dose,
            strength=None if treatment is None or dose is None else treatment.at(call.operation, dose)[0],
            ok=call.effective or call.ok,
            scripted=call.scripted,
            after_sitter=call.message > sitter,
            operation=call.operation,
        )

    def _applied(self, name: str) -> str:
        return RANDOM_DIRECTION if self.condition.arm == "random" else self.condition.applied(name)

    def _seed(self) -> int:
        """Return the next generation's seed: the same in every arm, as long as the conversations are."""
        self._requests += 1
        return derived_seed(f"{self.condition.seed}/{self.state.epoch}/{self._requests}")

    async def _offer(self, tools: Offered) -> Offered:
        """Return the tools with ours among them.

        Those of the sample's state are added to in place, as solvers carry calls out from them. No other list is: an agent may
        keep it for all samples, and one sample's tools would be offered in another, whatever its framing.
        """
        if isinstance(tools, ToolSource):
            tools = await tools.tools()
        names = {name for tool in tools for name in await _names(tool)}
        missing = [tool for tool in self.tools if ToolDef(tool).name not in names]
        if not missing:
            return tools
        if tools is self.state.tools:
            self.state.tools.extend(missing)
            return tools
        return [*tools, *missing]

    def _join_system_messages(self, messages: list[ChatMessage]) -> None:
        """Join our introduction with the task's own system message: templates may take only one, in front of all else."""
        system = [i for i, message in enumerate(messages) if isinstance(message, ChatMessageSystem)]
        ours = [i for i in system if self.introduction is not None and messages[i].id == self.introduction.id]
        if len(ours) != 1 or len(system) < 2:
            return
        first = next(i for i in system if i not in ours)
        text = f"{messages[first].text}\n\n{messages[ours[0]].text}"
        messages[first] = messages[first].model_copy(update={"content": text})
        del messages[ours[0]]

    def _conversation(self, messages: Sequence[ChatMessage]) -> "_Conversation":
        """Return what is known of the conversation that these messages go on with; a critique of an answer, say, is another."""
        ids = _marks(messages)
        best = max(self._conversations, key=lambda each: len(each.sent & ids), default=None)
        if best is None or not best.sent & ids:
            best = _Conversation(sent=ids)
            self._conversations.append(best)
        return best

    def _check_carried_out(self, messages: Sequence[ChatMessage]) -> None:
        ours = {ToolDef(tool).name for tool in self.tools}
        for message in messages:
            if (
                isinstance(message, ChatMessageTool)
                and message.function in ours
                and message.error is not None
                and message.error.message == f"Tool {message.function} not found"
            ):
                raise SessionError(
                    f"the agent was asked for {message.function} and does not have it: it carries calls out from a list of its "
                    "own. Give it the session's tools, such as react(tools=[..., session_tools()])"
                )

    def _check_whole(self, messages: Sequence[ChatMessage]) -> None:
        """Raise where messages of this conversation were dropped that an active effect needs."""
        ids = {message.id for message in messages}
        dropped = {
            call: name
            for message, taken in self._conversation(messages).needed.items()
            if message not in ids
            for call, name in taken.items()
        }
        if not dropped:
            return
        # A turn that an agent threw away unused, such as the worse of two, took nothing.
        carried_out = {e.id for e in transcript().events if isinstance(e, ToolEvent) and e.error is None}
        active = sorted({name for call, name in dropped.items() if call in carried_out})
        if active:
            raise SessionError(
                f"{', '.join(active)} is active, but the message that took it is no longer sent: an agent that trims or "
                "summarises its history would end effects unseen. Turn that off, or raise the limit"
            )

    def _check_all_planned(self) -> None:
        for call in take_calls(self.state.messages):
            if not call.scripted and self.state.messages[call.message].id not in self._generated:
                raise SessionError(
                    "a turn with a take call was generated around the session, by a model that the agent names itself: let it use "
                    "the active model, get_model() without arguments"
                )

    def _show(self, exposures: Sequence[Exposure], receipts: Sequence[Mapping[str, Any]]) -> None:
        """Write to the transcript what each effect did, whenever effects were started or ended."""
        now = [(e.name, e.start, e.stop) for e in exposures]
        if now == self._shown:
            return
        self._shown = now
        transcript().info(_page(exposures, receipts), source="steering")


def what_starts(
    words: Framing, operators: Sequence[Operation], gauge: str = NO_GAUGE, *, infinitive: bool = False
) -> str:
    """Return what the tools of some operations do, and the one that reads where there is one, in a framing's words, as a list."""
    said = [prompts.STARTS[one][infinitive].format(tool=words.tool(one)) for one in operators]
    if gauge != NO_GAUGE:
        said.append(prompts.STARTS["read"][infinitive].format(tool=READ_TOOL))
    return ", ".join(said)


def session_tools() -> ToolSource:
    """Return the steering tools of whichever session is running, for agents that carry calls out from a list of their own.

    Outside a session there are none, so that one agent serves baselines too.

    Example:
        >>> from inspect_ai.agent import is_agent, react
        >>> is_agent(react(tools=[session_tools()]))
        True
    """
    return _SessionTools()


class _SessionTools(ToolSource):
    async def tools(self) -> list[Tool]:
        session = _current.get(None)
        return [] if session is None else list(session.tools)


def _card_alone(library: str | None) -> LibraryCard | None:
    """Return the card of a library for no model at hand; None for the shipped one, whose vectors are the catalogue's."""
    return read_card(library_folder(library)) if library else None


async def _names(tool: object) -> list[str]:
    if isinstance(tool, ToolSource):
        return [ToolDef(one).name for one in await tool.tools()]
    name = getattr(tool, "name", None)
    return [str(name)] if isinstance(name, str) else [ToolDef(tool).name]  # type: ignore[arg-type]


def _marks(messages: Sequence[ChatMessage]) -> set[str]:
    """Return what tells a conversation from others: ids of messages and calls; agents in turn may share a system message."""
    turns = [message for message in messages if not isinstance(message, ChatMessageSystem)]
    answered = {m.tool_call_id for m in turns if isinstance(m, ChatMessageTool) and m.tool_call_id}
    calls = {c.id for m in turns if isinstance(m, ChatMessageAssistant) for c in m.tool_calls or []}
    return {message.id for message in turns if message.id} | answered | calls


def _placeholders(message: ChatMessage) -> list[ChatMessage]:
    """Return what may follow a message of the model's, so that a prompt goes on behind it: errors in answer to its calls."""
    calls = message.tool_calls if isinstance(message, ChatMessageAssistant) else None
    if not calls:
        return [ChatMessageUser(content=_NOTHING)]
    error = ToolCallError("unknown", _NOTHING)
    return [ChatMessageTool(content="", tool_call_id=c.id, function=c.function, error=error) for c in calls]


def _taken(message: ChatMessage) -> dict[str, str]:
    """Return for each take call of a message what it takes."""
    return {call.call.id: call.name for call in take_calls([message])}


def _refuse_calls(output: ModelOutput) -> None:
    """Mark the calls after one that ends the session, and those beyond the most that one message may hold."""
    ended = False
    for number, call in enumerate(output.message.tool_calls or []):
        if call.parse_error is None and ended:
            call.parse_error = prompts.REFUSED_ENDED
        elif call.parse_error is None and number >= MOST_CALLS:
            call.parse_error = prompts.REFUSED_MANY.format(most=MOST_CALLS)
        ended = ended or (call.function == END_TOOL and call.parse_error is None)


def _moved(receipt: Mapping[str, Any]) -> str:
    """Return what became of the mean projection; nothing where nothing was measured."""
    before, after = receipt["projection_before"], receipt["projection_after"]
    return "" if before is None else f" (projection {before:.4g} → {after:.4g} at layer {receipt['monitor_layer']})"


def _page(exposures: Sequence[Exposure], receipts: Sequence[Mapping[str, Any]]) -> str:
    lines = ["What the engine did in the turn above, one line an effect:", ""]
    for exposure, receipt in zip(exposures, receipts, strict=True):
        until = "still active" if exposure.stop is None else f"ended before message {exposure.stop}"
        layers: list[int] = receipt["layers"]
        applied = "" if exposure.applied == exposure.name else f" (applied: {exposure.applied})"
        if exposure.operation == "add":
            how = f"dose {exposure.dose:g}, strength {exposure.strength:.3g}"
        else:
            how = f"{in_words(exposure.operation, exposure.strength, receipt.get('target'))}{_moved(receipt)}"
        lines.append(
            f"- **{exposure.name}**{applied}: {how} at layers "
            f"{layers[0]}–{layers[-1]}, from message {exposure.start}, {until}: "
            f"{exposure.positions} positions steered of {receipt['planned']} planned"
            + (f", {exposure.in_thoughts} of them in thoughts" if exposure.in_thoughts else "")
        )
    return "\n".join(lines)
